package simengine

import "strings"

// voice is what the pretend model says: readable words, each one token whose text, sent back in a later
// prompt, becomes that token again, so that the next turn finds the answer in the cache.
//
// What it says next depends on all tokens before, and at temperature 0 on nothing else: equal prompts get
// equal answers, and a prompt that ends with part of an answer is continued with the rest of it.
type voice struct {
	words   []string
	plain   []int32 // ids of the words as they open a line
	spaced  []int32 // ids of the words after a space
	text    map[int32]string
	opening map[int32]bool // after these tokens a word stands without a space before it
}

func newVoice() *voice {
	v := &voice{text: map[int32]string{tokenEnd: ""},
		opening: map[int32]bool{tokenStart: true, tokenEnd: true, pieceID("\n"): true, pieceID("\n\n"): true}}
	for _, w := range strings.Fields(vocabularyText) {
		plain, spaced := pieceID(w), pieceID(" "+w)
		if _, taken := v.text[plain]; taken {
			continue // two pieces with one id could not be told apart
		}
		if _, taken := v.text[spaced]; taken {
			continue
		}
		v.words = append(v.words, w)
		v.plain, v.spaced = append(v.plain, plain), append(v.spaced, spaced)
		v.text[plain], v.text[spaced] = w, " "+w
	}
	return v
}

// A speech says what may end an answer.
type speech struct {
	limit   int    // most tokens
	mean    int    // tokens after which the model tends to end by itself; 0: never
	seed    uint64 // 0 at temperature 0
	minimum int    // tokens before which neither the end nor a stop counts
	stops   []string
	stopIDs []int32

	keepStop bool   // the text ends with the stop that ended it, not before
	script   string // what is said instead of words of the model's own
}

// An answer is all that the model says to a prompt.
type answer struct {
	text   string // without what follows a stop
	ends   []int  // length of the text after each token
	reason string // "stop" or "length"
	match  any    // for "stop": the string or token id that ended it
}

// speak appends the answer to the prompt's tokens.
func (v *voice) speak(prompt []int32, s speech) ([]int32, answer) {
	state := s.seed
	for _, t := range prompt {
		state = listen(state, t)
	}
	tokens, ans := prompt, answer{reason: "length"}
	var last int32
	if len(prompt) > 0 {
		last = prompt[len(prompt)-1]
	}
	var text strings.Builder
	script := s.script
	for n := 1; n <= s.limit; n++ {
		var token int32
		from := text.Len()
		if s.script == "" {
			token = v.next(state, last, s.mean, n > s.minimum)
			state, last = listen(state, token), token
			text.WriteString(v.text[token])
		} else {
			piece := script[:pieceLen(script)]
			token, script = pieceID(piece), script[len(piece):]
			text.WriteString(piece)
		}
		tokens = append(tokens, token)
		ans.ends = append(ans.ends, text.Len())
		if n > s.minimum && ans.stopped(text.String(), from, token, s) {
			break
		}
	}
	if ans.reason == "length" {
		ans.text = text.String()
	}
	for i := len(ans.ends) - 1; i >= 0 && ans.ends[i] > len(ans.text); i-- {
		ans.ends[i] = len(ans.text)
	}
	return tokens, ans
}

// stopped says whether the newest token, whose text begins at from, ends the answer, and notes how.
func (a *answer) stopped(text string, from int, token int32, s speech) bool {
	for _, stop := range s.stops {
		at := max(0, from-len(stop)+1)
		if stop == "" {
			at = 0 // it is found at the very beginning
		}
		i := strings.Index(text[at:], stop)
		if i < 0 {
			continue
		}
		at += i
		if s.keepStop {
			at += len(stop)
		}
		a.text, a.reason, a.match = text[:at], "stop", stop
		return true
	}
	for _, id := range s.stopIDs {
		if id == token {
			a.text, a.reason, a.match = text[:from], "stop", id
			return true
		}
	}
	if token == tokenEnd {
		a.text, a.reason, a.match = text, "stop", tokenEnd
		return true
	}
	return false
}

// next is the token after state: a word, or the end with probability 1/mean where it may come.
func (v *voice) next(state uint64, last int32, mean int, mayEnd bool) int32 {
	h := mix(state)
	if mean > 0 && mayEnd && (h>>32)%uint64(mean) == 0 {
		return tokenEnd
	}
	word := h % uint64(len(v.words))
	if v.opening[last] {
		return v.plain[word]
	}
	return v.spaced[word]
}

// listen folds a token into the state.
func listen(state uint64, token int32) uint64 {
	return (state ^ uint64(uint32(token)) + 1) * 0x9e3779b97f4a7c15
}

// vocabularyText lists the words: short enough to be one piece each.
const vocabularyText = `
able about above acid after again air all along also amber among angle apple april arch area arm arrow ash
aside atlas atom away baby back bake balm bank bark barn base bath beach beam bean bear bell below bench
berry best birch bird black blank bloom blue boat bold bone book both bowl brass bread brick brief bring
broad brook brown brush build busy cabin cable calm camp canal cape card cargo cart case cedar chain chair
chalk charm chart cheap chest chief child city claim class clay clean clear cliff climb clock cloth cloud
clue coal coast coat coin cold comet copy coral cord corn cost cover craft crane creek crisp crop crown
cup curve cycle daily dance dark dawn day deal deck deep deer delta depth desk dial door dot down draw
dream dress drift drive drop drum dry dusk dust eagle early earth east easy edge eight elder elm ember
empty end enjoy entry equal even event ever every exact extra fable face fact faint fair fall far farm
fast feast fence fern field fifth file find fine fire first fish five flag flame flat fleet float flock
floor flour flow flute fog fold form fort forth four fox frame free fresh frost fruit full game gate gem
giant gift glass globe glow goat gold good grain grand grape grass gray great green grid group grove guard
guest guide half hall hand happy hat haven hawk hazel heart heat hedge help herb here high hill hint home
honey hope horn horse hour house ice idea inch iron isle item ivory ivy jade jar join july just keen keep
key kind king kite knot known lace lake lamp land lane large last late leaf learn left lemon level light
lily lime line linen lion list live local loft long loop lunar maple march mark mast math meal mesh metal
mild mile milk mill mind mint mist model moon moss most moth mount mouse music name near nest never new
next night nine noble north note novel oak oat ocean offer old olive once open orbit order other outer
oval owl page paint pair palm paper park part past patch path peace peach pear pearl pen petal piano pilot
pine pipe place plain plan plant plate plum poem point polar pond port post press pulse quick quiet quilt
rain raft rail ranch range reach ready reed reef rest rice ridge ring ripe rise river road robin rock roof
room root rope rose round route royal sail salt sand scale scene seed seven shade shape sharp shell shine
ship shore short silk six sky slate sleep slope slow small smile smoke snow soft soil solar solid song
sound south spark spice spoon star steam steel step still stone storm story straw sugar sun swan swift
table tall tea ten tent thin third three tide tiger time tin toast torch total tower town track trail
train tree true tulip two under unity upon usual vast very view vine visit vivid voice wagon walk wall
warm water wave wax way west whale wheat wheel white whole wide wild wind wing wise wolf wood wool word
work world yard year young zebra zinc`
