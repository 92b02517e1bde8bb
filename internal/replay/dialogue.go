package replay

import "math/rand/v2"

// A span is a range of lengths in tokens, both ends possible.
type span struct{ least, most int }

func exactly(n int) span { return span{n, n} }

// draw picks a length evenly. Without a choice it takes nothing from rng.
func (s span) draw(rng *rand.PCG) int {
	if s.least == s.most {
		return s.most
	}
	return s.least + rand.New(rng).IntN(s.most-s.least+1)
}

// A dialogue is one generated conversation: each turn is all that was said before, the model's real replies included,
// and a new question. It is over after a reply that failed.
type dialogue struct {
	chat      bool
	turns     int
	opening   func([]byte) []byte // appends the inside of a JSON string before the first question; may be nil
	question  span                // drawn for each turn
	rng       *rand.PCG           // of the questions' text
	sizes     *rand.PCG           // of their lengths; may be nil if there is no choice
	maxTokens int                 // of each reply
	key       string              // Turn.RoutingKey
	turn      int                 // turns made
	history   []byte              // everything said so far, encoded for the API
}

func (d *dialogue) Next(reply Reply) (Turn, bool) {
	if d.turn == d.turns || (d.turn > 0 && !reply.OK) {
		return Turn{}, false
	}
	if d.turn > 0 {
		d.begin("assistant")
		d.history = appendEscaped(d.history, reply.Text)
		d.end()
	}
	d.begin("user")
	if d.turn == 0 && d.opening != nil {
		d.history = d.opening(d.history)
	}
	d.history = appendWords(d.history, d.rng, d.question.draw(d.sizes))
	d.end()
	d.turn++
	turn := Turn{MaxTokens: d.maxTokens, RoutingKey: d.key}
	if d.chat {
		turn.Messages = d.history
	} else {
		turn.Text = d.history
	}
	return turn, true
}

// begin and end put a message's frame around text: as a chat message, or, for /generate, set off from what
// precedes it by an empty line. Replies follow their question directly there: they continue it.
func (d *dialogue) begin(role string) {
	switch {
	case !d.chat && role != "assistant" && len(d.history) > 0:
		d.history = append(d.history, paragraph...)
	case d.chat:
		if len(d.history) > 0 {
			d.history = append(d.history, ',')
		}
		d.history = append(d.history, `{"role":"`...)
		d.history = append(d.history, role...)
		d.history = append(d.history, `","content":"`...)
	}
}

func (d *dialogue) end() {
	if d.chat {
		d.history = append(d.history, `"}`...)
	}
}

// paragraph is an empty line, escaped.
const paragraph = `\n\n`
