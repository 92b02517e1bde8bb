package simengine

// responses keeps the answers of /v1/responses, the latest so many.
type responses struct {
	bound int
	byID  map[string]*stored
	order []string
}

type stored struct{}

func newResponses(bound int) *responses {
	return &responses{bound: bound, byID: map[string]*stored{}}
}
