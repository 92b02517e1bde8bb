package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// A Member is where a top-level member lies: body[KeyStart] is its key's opening quote, and
// body[Start:End] its value.
type Member struct {
	Key                  string
	KeyStart, Start, End int
}

// Points are the places where a scanned object can be edited. They are plain data, and may travel to
// another process with the body they belong to.
type Points struct {
	Open    int      // offset of the object's opening brace
	Empty   bool     // the object has no members at all
	Members []Member // in the order of the body
}

// A Set is one edit: the member Key gets Value, one JSON value, or is removed.
type Set struct {
	Key    string
	Value  []byte
	Delete bool
}

// ErrPoints reports points that do not belong to the body they came with.
var ErrPoints = errors.New("json: edit points do not fit the body")

// Apply returns body with the edits made, as a new slice. A member that is there keeps its place, and a
// new one goes right behind the opening brace, in the order of sets; removing what is not there does
// nothing. Only keys that the scan asked for may be set: of others the points cannot tell whether
// the body has them already.
//
// The points, the body and the sets may come from a stranger. Points that do not fit the body give
// [ErrPoints], a value that is no JSON an *[Error], the same key twice an error; never a panic. Points
// that fit only by chance edit where they say.
func (p Points) Apply(body []byte, sets []Set) ([]byte, error) {
	pieces, err := p.Pieces(body, sets)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, piece := range pieces {
		n += len(piece)
	}
	edited := make([]byte, 0, n)
	for _, piece := range pieces {
		edited = append(edited, piece...)
	}
	return edited, nil
}

// Pieces is Apply without the copy: the edited body is the concatenation of the pieces, which alias body
// and the sets' values.
func (p Points) Pieces(body []byte, sets []Set) ([][]byte, error) {
	if err := p.check(body); err != nil {
		return nil, err
	}
	cuts, inserted, err := p.plan(body, sets)
	if err != nil {
		return nil, err
	}
	pieces := make([][]byte, 0, 2*len(cuts)+3)
	at := p.Open + 1
	pieces = append(pieces, body[:at])
	if len(inserted) > 0 {
		if p.emptied(body, cuts) {
			inserted = inserted[:len(inserted)-1] // no member follows the last comma
		}
		pieces = append(pieces, inserted)
	}
	for _, c := range cuts {
		pieces = append(pieces, body[at:c.start], c.with)
		at = c.end
	}
	return append(pieces, body[at:]), nil
}

// check verifies, without reading values, that the points can be those of body: in order, inside of it,
// and each at a key of that name.
func (p Points) check(body []byte) error {
	if p.Open < 0 || p.Open >= len(body) || body[p.Open] != '{' || p.Empty && len(p.Members) > 0 {
		return ErrPoints
	}
	floor := p.Open + 1
	for _, m := range p.Members {
		if m.KeyStart < floor || m.KeyStart >= m.Start || m.Start >= m.End || m.End >= len(body) {
			return fmt.Errorf("%w: member %q", ErrPoints, m.Key)
		}
		s := scanner{b: body[m.KeyStart:m.Start]}
		i, escaped := s.key(0)
		if i < 0 {
			return fmt.Errorf("%w: member %q", ErrPoints, m.Key)
		}
		key := s.b[1 : i-1]
		if escaped {
			key = AppendUnescaped(nil, key)
		}
		if string(key) != m.Key || s.colon(i) != len(s.b) {
			return fmt.Errorf("%w: member %q", ErrPoints, m.Key)
		}
		floor = m.End
	}
	return nil
}

// A cut replaces body[start:end].
type cut struct {
	start, end int
	with       []byte
	whole      bool // a member with its key goes
}

// plan turns sets into cuts, in the order of the body, and the text of new members, each with a comma.
func (p Points) plan(body []byte, sets []Set) (cuts []cut, inserted []byte, err error) {
	for i, set := range sets {
		if slices.ContainsFunc(sets[:i], func(s Set) bool { return s.Key == set.Key }) {
			return nil, nil, fmt.Errorf("json: key %q is set twice", set.Key)
		}
		if !set.Delete {
			if err := Valid(set.Value); err != nil {
				return nil, nil, fmt.Errorf("value for %q: %w", set.Key, err)
			}
		}
		at := slices.IndexFunc(p.Members, func(m Member) bool { return m.Key == set.Key })
		switch {
		case at >= 0 && set.Delete:
			cuts = append(cuts, cut{start: p.Members[at].KeyStart, end: p.Members[at].End, whole: true})
		case at >= 0:
			cuts = append(cuts, cut{start: p.Members[at].Start, end: p.Members[at].End, with: set.Value})
		case !set.Delete:
			inserted = AppendString(inserted, set.Key)
			inserted = append(inserted, ':')
			inserted = append(inserted, set.Value...)
			inserted = append(inserted, ',')
		}
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.start - b.start })
	return p.takeCommas(body, cuts), inserted, nil
}

// takeCommas joins neighbouring removals and widens each by one comma: the one behind it, or in front
// of it if it reaches the last member.
func (p Points) takeCommas(body []byte, cuts []cut) []cut {
	joined := cuts[:0]
	for _, c := range cuts {
		if n := len(joined); n > 0 && c.whole && joined[n-1].whole {
			if between := bytes.TrimSpace(body[joined[n-1].end:c.start]); len(between) == 1 && between[0] == ',' {
				joined[n-1].end = c.end
				continue
			}
		}
		joined = append(joined, c)
	}
	for i, c := range joined {
		if !c.whole {
			continue
		}
		s := scanner{b: body}
		if next := s.space(c.end); next < len(body) && body[next] == ',' {
			joined[i].end = next + 1
			continue
		}
		floor := p.Open + 1
		if i > 0 {
			floor = joined[i-1].end
		}
		for k := c.start - 1; k >= floor; k-- {
			if body[k] == ',' {
				joined[i].start = k
				break
			}
			if b := body[k]; b != ' ' && b != '\n' && b != '\t' && b != '\r' {
				break
			}
		}
	}
	return joined
}

// emptied reports whether no member is left once the cuts are made.
func (p Points) emptied(body []byte, cuts []cut) bool {
	s := scanner{b: body}
	i := s.space(p.Open + 1)
	if len(cuts) > 0 && cuts[0].whole && cuts[0].start == i {
		i = s.space(cuts[0].end)
	}
	return i < len(body) && body[i] == '}'
}
