package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// azureRecord is a row of Azure's tables: when a request came, and its lengths.
type azureRecord struct {
	at            time.Duration // from the first row on
	input, output int
}

func (a *azureRecord) session(number int) (session, time.Duration, error) {
	r, err := newSizedRequest(number, a.input, a.output)
	return r, a.at, err
}

// An azureTable yields the rows of a table of comma-separated values.
type azureTable struct {
	rows  *csv.Reader
	first time.Time
}

// Columns of the tables that are known.
const (
	azureColumns    = "TIMESTAMP ContextTokens GeneratedTokens"
	serveGenColumns = "client window_start_s rate_rps cv family param1 param2"
)

// ErrRatesOnly reports a trace that says how often requests come, and nothing about them.
var ErrRatesOnly = errors.New("it holds rates of arrivals and no requests: it drives radixbus simulate, not bench; use --rate with a generated workload")

func newAzureTable(r io.Reader) (*azureTable, error) {
	t := &azureTable{rows: csv.NewReader(r)}
	t.rows.ReuseRecord = true
	header, err := t.rows.Read()
	if err != nil {
		return nil, errors.Join(errForeign, err)
	}
	switch join(header) {
	case azureColumns:
		return t, nil
	case serveGenColumns:
		return nil, ErrRatesOnly
	}
	return nil, errForeign
}

func join(columns []string) (all string) {
	for i, c := range columns {
		if i > 0 {
			all += " "
		}
		all += c
	}
	return all
}

// next returns io.EOF after the last row.
func (t *azureTable) next() (*azureRecord, error) {
	row, err := t.rows.Read()
	if err != nil {
		return nil, err
	}
	line, _ := t.rows.FieldPos(0)
	at, err := time.Parse("2006-01-02 15:04:05", row[0]) // fractions of a second are accepted too
	if err != nil {
		return nil, fmt.Errorf("line %d: time %q", line, row[0])
	}
	if t.first.IsZero() {
		t.first = at
	}
	a := &azureRecord{at: at.Sub(t.first)}
	for i, into := range []*int{&a.input, &a.output} {
		if *into, err = strconv.Atoi(row[1+i]); err != nil {
			return nil, fmt.Errorf("line %d: %q is no number of tokens", line, row[1+i])
		}
	}
	return a, nil
}
