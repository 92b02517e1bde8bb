package replay

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
)

// An Order is the order in which the prompts of groups are sent.
type Order string

const (
	Shuffled Order = "shuffled" // over all groups
	Grouped  Order = "grouped"  // A1 A2 B1 B2: the shortest way from one use of a prefix to the next
	Rounds   Order = "rounds"   // A1 B1 A2 B2: the longest
)

// Orders lists the orders there are.
func Orders() []Order { return []Order{Shuffled, Grouped, Rounds} }

// SharedPrefixConfig shapes prompts that share long beginnings. The zero value of every field means its documented
// default; where two are given, the second is [NewLongDoc]'s.
type SharedPrefixConfig struct {
	// Groups is the number of distinct system prompts, or documents. Default 64; 16.
	Groups int
	// Prompts is the number of conversations of each group. Default 16; 8.
	Prompts int
	// SystemTokens is the length of a system prompt, or document. Default 2048; 24000.
	SystemTokens int
	// QuestionTokens is the length of what follows it. Default 128; 64.
	QuestionTokens int
	// OutputTokens is the length asked of each reply. Default 256; 32.
	OutputTokens int
	// RangeRatio makes lengths vary evenly from this share of the full one up: one draw a group, a question, and a
	// conversation's replies. Default 1, all equal; negative: from one token up.
	RangeRatio float64
	// Turns is the number of questions in a conversation. Default 1.
	Turns int
	// Order of the conversations. Default Shuffled; Rounds. The other two need the groups to be equally popular.
	Order Order
	// Zipf, if positive, draws each conversation's group at random: the k-th with a share in proportion to k^-Zipf.
	// Default 0: every group has exactly Prompts conversations.
	Zipf float64
	// HotGroup is the share of conversations, drawn at random, that go to group 0 whatever else is said. Default none.
	HotGroup float64
	// RoutingKey sends each group's number in the header x-smg-routing-key.
	RoutingKey bool
}

// SharedPrefix is a workload of prompts that share long beginnings. Its natural size is Groups × Prompts conversations;
// beyond it the groups are asked new questions.
//
// With equal lengths f = system/(system + question) of a prompt is shared. One cache that keeps everything and is asked
// one at a time hits (p−1)/p × f of the tokens for p prompts a group; without affinity, N equal workers hit
// f × (1 − N(1−(1−1/N)^p)/p). At the defaults of generated-shared-prefix that is 88.2 %, and 52.6 % for eight workers.
type SharedPrefix struct {
	name string
	cfg  SharedPrefixConfig
	// popular is the share of the groups up to each one, if they are not equally popular.
	popular []float64
}

// maxGroups bounds the table of a Zipf distribution to 8 MiB.
const maxGroups = 1 << 20

// NewSharedPrefix makes the workload generated-shared-prefix of SGLang's bench_serving, "gsp".
func NewSharedPrefix(cfg SharedPrefixConfig) (*SharedPrefix, error) {
	return newSharedPrefix("gsp", cfg, SharedPrefixConfig{
		Groups: 64, Prompts: 16, SystemTokens: 2048, QuestionTokens: 128, OutputTokens: 256, Order: Shuffled,
	})
}

// NewLongDoc makes the workload "longdoc": several questions on each of a few long documents, as far apart as they
// can be, unless cfg says otherwise.
func NewLongDoc(cfg SharedPrefixConfig) (*SharedPrefix, error) {
	return newSharedPrefix("longdoc", cfg, SharedPrefixConfig{
		Groups: 16, Prompts: 8, SystemTokens: 24000, QuestionTokens: 64, OutputTokens: 32, Order: Rounds,
	})
}

func newSharedPrefix(name string, cfg, def SharedPrefixConfig) (*SharedPrefix, error) {
	uneven := cfg.Zipf != 0 || cfg.HotGroup != 0
	if cfg.Order == "" && uneven {
		cfg.Order = Shuffled
	} else if cfg.Order == "" {
		cfg.Order = def.Order
	}
	if cfg.RangeRatio == 0 {
		cfg.RangeRatio = 1
	}
	cfg.RangeRatio = max(cfg.RangeRatio, 0)
	var s settings
	s.number("groups", &cfg.Groups, def.Groups, maxGroups)
	s.number("prompts per group", &cfg.Prompts, def.Prompts, 1<<30)
	s.number("system tokens", &cfg.SystemTokens, def.SystemTokens, maxPromptBytes/wordBytes)
	s.number("question tokens", &cfg.QuestionTokens, def.QuestionTokens, maxPromptBytes/wordBytes)
	s.number("output tokens", &cfg.OutputTokens, def.OutputTokens, maxPromptBytes/wordBytes)
	s.number("turns", &cfg.Turns, 1, 1<<16)
	if !(cfg.RangeRatio <= 1) {
		s.wrong("range ratio %v is not in 0..1", cfg.RangeRatio)
	}
	if !slices.Contains(Orders(), cfg.Order) {
		s.wrong("unknown order %q: there are %v", cfg.Order, Orders())
	}
	if !(cfg.Zipf >= 0 && cfg.Zipf <= 10) {
		s.wrong("Zipf exponent %v is not in 0..10", cfg.Zipf)
	}
	if !(cfg.HotGroup >= 0 && cfg.HotGroup <= 1) {
		s.wrong("hot group's share %v is not in 0..1", cfg.HotGroup)
	}
	if uneven && cfg.Order != Shuffled {
		s.wrong("order %q needs equally popular groups", cfg.Order)
	}
	if len(s.errs) == 0 && (cfg.Turns*cfg.QuestionTokens+cfg.SystemTokens)*wordBytes > maxPromptBytes {
		s.wrong("a conversation would pass %d bytes", maxPromptBytes)
	}
	if err := s.err(name); err != nil {
		return nil, err
	}
	w := &SharedPrefix{name: name, cfg: cfg}
	if uneven {
		w.popular = popularity(cfg.Groups, cfg.Zipf, cfg.HotGroup)
	}
	return w, nil
}

// popularity is the share of the groups up to each one: a Zipf distribution of the given exponent (0: all equal), of
// which the first group takes the share hot beforehand. The last is 1.
func popularity(groups int, exponent, hot float64) []float64 {
	upTo := make([]float64, groups)
	sum := 0.0
	for k := range upTo {
		sum += math.Pow(float64(k+1), -exponent)
		upTo[k] = sum
	}
	for k := range upTo {
		upTo[k] = hot + (1-hot)*upTo[k]/sum
	}
	upTo[groups-1] = 1
	return upTo
}

func (w *SharedPrefix) Name() string { return w.name }

func (w *SharedPrefix) Params() map[string]any {
	return map[string]any{
		"groups":            w.cfg.Groups,
		"prompts_per_group": w.cfg.Prompts,
		"system_tokens":     w.cfg.SystemTokens,
		"question_tokens":   w.cfg.QuestionTokens,
		"output_tokens":     w.cfg.OutputTokens,
		"range_ratio":       w.cfg.RangeRatio,
		"turns":             w.cfg.Turns,
		"order":             string(w.cfg.Order),
		"zipf":              w.cfg.Zipf,
		"hot_group":         w.cfg.HotGroup,
		"routing_key":       w.cfg.RoutingKey,
	}
}

func (w *SharedPrefix) Supports(api API) bool { return api == Chat || api == Generate }

func (w *SharedPrefix) Size() (conversations, requests int) {
	n := w.cfg.Groups * w.cfg.Prompts
	return n, n * w.cfg.Turns
}

func (w *SharedPrefix) Conversation(n int, seed uint64, api API) (Conversation, bool) {
	if n < 0 {
		return nil, false
	}
	group, prompt := w.place(n, seed)
	number := uint64(prompt)*uint64(w.cfg.Groups) + uint64(group)
	d := &dialogue{
		chat:      api == Chat,
		turns:     w.cfg.Turns,
		question:  w.span(w.cfg.QuestionTokens),
		rng:       stream(seed, questionText, number),
		sizes:     stream(seed, questionSize, number),
		maxTokens: w.span(w.cfg.OutputTokens).draw(stream(seed, replySize, number)),
		opening: func(dst []byte) []byte {
			rng := stream(seed, systemText, uint64(group))
			size := w.span(w.cfg.SystemTokens).draw(rng)
			return append(appendWords(dst, rng, size), paragraph...)
		},
	}
	if w.cfg.RoutingKey {
		d.key = "group-" + strconv.Itoa(group)
	}
	return d, true
}

// place says whose the n-th conversation is, and its number there. With uneven groups the number is n itself: how many
// came before is not known without counting them.
func (w *SharedPrefix) place(n int, seed uint64) (group, prompt int) {
	if w.popular != nil {
		u := rand.New(stream(seed, groupChoice, uint64(n))).Float64()
		return sort.Search(len(w.popular)-1, func(k int) bool { return w.popular[k] > u }), n
	}
	size := w.cfg.Groups * w.cfg.Prompts
	round, i := n/size, n%size
	switch w.cfg.Order {
	case Rounds:
		return i % w.cfg.Groups, round*w.cfg.Prompts + i/w.cfg.Groups
	case Shuffled:
		i = shuffled(i, size, mix(seed^mix(groupOrder)^uint64(round)))
	}
	return i / w.cfg.Prompts, round*w.cfg.Prompts + i%w.cfg.Prompts
}

// span is the range of lengths that RangeRatio leaves of a full one.
func (w *SharedPrefix) span(full int) span {
	return span{max(min(full, 1), int(float64(full)*w.cfg.RangeRatio)), full}
}

// shuffled returns where i, of 0 to size−1, stands after a shuffle that key decides, without making the others'
// places: a Feistel network over the next power of four (Luby, Rackoff, SIAM J. Comput. 1988), walked until it comes
// back into the range, which takes four steps at the most on average.
func shuffled(i, size int, key uint64) int {
	half := uint(1)
	for 1<<(2*half) < size {
		half++
	}
	mask := uint64(1)<<half - 1
	for {
		left, right := uint64(i)>>half, uint64(i)&mask
		for round := range uint64(4) {
			left, right = right, left^(mix(right^mix(key+round))&mask)
		}
		if i = int(left<<half | right); i < size {
			return i
		}
	}
}
