package replay

import (
	"math/rand/v2"
	"slices"
)

// words are common English words of three letters. With the space between them that makes four bytes, and
// usual vocabularies hold each, with its space, as one token: a text of n words has about n tokens whether
// one counts with a tokeniser or divides bytes by four.
const words = "ace act add age ago aid aim air all and ant any ape arc are arm " +
	"art ash ask ate awe axe bad bag ban bar bat bay bed bee beg bet " +
	"bid big bin bit bow box boy bud bug bus but buy cab can cap car " +
	"cat cow cry cub cup cut dad dam day den dew did die dig dim dip " +
	"dog dot dry due dug ear eat egg ego elf elm end era eve eye fan " +
	"far fat fax fed fee few fig fin fit fix fly fog for fox fun fur " +
	"gap gas gel gem get gin god got gum gun gut guy gym had ham has " +
	"hat hay hen her hex hid him hip his hit hog hot how hub hue hug " +
	"hum hut ice ill ink inn ion its ivy jam jar jaw jet job joy key " +
	"kid kin kit lab lad lap law lay led leg let lid lie lip lit log " +
	"lot low mad man map mat may men met mid mix mob mom mud mug net " +
	"new nod nor not now nut oak oar oat odd off oil old one opt orb " +
	"our out owe owl own pad pan pay pea pen pet pie pig pin pit pod " +
	"pop pot put ran rat raw ray red rib rid rim rip rod row rub rug " +
	"run sad sat saw say sea see set she shy sin sip sir sit six sky " +
	"son sum sun tap tax tea ten the tie tin tip toe top toy try two "

const (
	wordBytes = 4 // three letters and a space
	wordCount = len(words) / wordBytes
)

// The generator takes one byte of randomness a word.
var _ [256]struct{} = [wordCount]struct{}{}

// appendWords appends n words, separated by spaces: 4n-1 bytes for a positive n.
func appendWords(dst []byte, rng *rand.PCG, n int) []byte {
	if n <= 0 {
		return dst
	}
	dst = appendSpacedWords(dst, rng, n)
	return dst[:len(dst)-1]
}

// appendSpacedWords appends n words, each with a space behind it: 4n bytes.
func appendSpacedWords(dst []byte, rng *rand.PCG, n int) []byte {
	start := len(dst)
	dst = slices.Grow(dst, n*wordBytes)[:start+n*wordBytes]
	for out := dst[start:]; len(out) > 0; {
		bits := rng.Uint64() // eight words
		for range min(8, len(out)/wordBytes) {
			at := int(bits&255) * wordBytes
			copy(out[:wordBytes], words[at:at+wordBytes])
			out, bits = out[wordBytes:], bits>>8
		}
	}
	return dst
}

// appendText appends exactly n bytes of words; what is left behind the last whole one stays a part of a word.
func appendText(dst []byte, rng *rand.PCG, n int) []byte {
	end := len(dst) + n
	return appendSpacedWords(dst, rng, (n+wordBytes-1)/wordBytes)[:end]
}

// Purposes of random streams.
const (
	questionText = iota
	systemText
	questionSize
	replySize
	groupChoice
	groupOrder
	arrivalTimes
	recordedTimes
	blockText
	restText
	userChoice = 1 << 32 // picks among a user's open conversations
)

// stream returns a source of its own for each (seed, purpose, number), so that no text depends on the order
// in which others are made.
func stream(seed, purpose, number uint64) *rand.PCG {
	return rand.NewPCG(mix(seed^mix(purpose)), mix(number))
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): neighbouring inputs, unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
