package command

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// A bounded flag refuses, as wrong usage, what is outside of its bounds, wherever it was said.
type bounded[T cmp.Ordered] struct {
	p           *T
	least, most T
	parse       func(string) (T, error)
	kind        string
}

func (b *bounded[T]) String() string { return fmt.Sprint(*b.p) }
func (b *bounded[T]) Type() string   { return b.kind }

func (b *bounded[T]) Set(s string) error {
	v, err := b.parse(s)
	if err != nil {
		return fmt.Errorf("%q is no %s", s, b.kind)
	}
	if v < b.least || v > b.most || v != v { // the last: a float that is no number
		return fmt.Errorf("%v is not in %v to %v", v, b.least, b.most)
	}
	*b.p = v
	return nil
}

func intVar(f *pflag.FlagSet, p *int, name string, value, least, most int, usage string) {
	*p = value
	f.Var(&bounded[int]{p, least, most, strconv.Atoi, "int"}, name, usage)
}

func int64Var(f *pflag.FlagSet, p *int64, name string, value, least int64, usage string) {
	*p = value
	parse := func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	f.Var(&bounded[int64]{p, least, math.MaxInt64, parse, "int"}, name, usage)
}

// portVar is a port of TCP; 0 picks a free one.
func portVar(f *pflag.FlagSet, p *int, name string, value int, usage string) {
	intVar(f, p, name, value, 0, 65535, usage)
}

// longest is the longest duration that a flag takes: beyond it sums of durations may overflow.
const longest = 365 * 24 * time.Hour

func durationVar(f *pflag.FlagSet, p *time.Duration, name string, value, least time.Duration, usage string) {
	*p = value
	f.Var(&bounded[time.Duration]{p, least, longest, time.ParseDuration, "duration"}, name, usage)
}
