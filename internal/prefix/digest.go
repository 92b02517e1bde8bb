package prefix

import (
	"encoding/binary"

	"github.com/minio/highwayhash"
	"github.com/radixbus/radixbus/internal/jsonscan"
)

// A Namespace separates prompts that look alike but share no cache. Any difference changes every hash.
type Namespace struct {
	Model  string // the base model, resolved: aliases share a cache
	LoRA   string
	Salt   string
	Tenant string // empty unless tenants are isolated from each other
}

// A Digest stands for one prompt.
type Digest struct {
	KeyID  uint32   // of the key it was made with: digests of different keys cannot be compared
	Ladder uint8    // the ladder of its blocks
	Bytes  uint64   // length of the canonical prompt
	Hashes []uint64 // one for each complete block, as far as it is indexed
}

// Digests returns the digest of each prompt, in their order: of the first [MaxDigests], and once
// [MaxTotalHashes] are used up the rest without hashes. A prompt of vectors (input_embeds) has no hashes
// either, and its Bytes are those of its JSON.
func (r *Request) Digests(k Key, ns Namespace) []Digest {
	w := writer{Request: r}
	w.key = k.bytes
	digests := make([]Digest, len(r.prompts))
	left := MaxTotalHashes
	for i, p := range r.prompts {
		most := min(left, MaxHashes)
		room := min(most, DepthAt(r.length(p)))
		if p.kind == embedsPrompt || room == 0 && (p.kind == textPrompt || p.kind == idsPrompt) {
			most, room = 0, 0
		}
		seed := uint64(0)
		if most > 0 {
			seed = w.seed(p.kind, i, ns)
		}
		w.begin(seed, make([]uint64, 0, room), most)
		w.renderPrompt(p)
		left -= len(w.hashes)
		digests[i] = Digest{KeyID: k.ID, Ladder: Ladder1, Bytes: w.total, Hashes: w.hashes}
	}
	return digests
}

// length is about how long the canonical form of a prompt is. Text and ids are never longer; a conversation is, by a
// few bytes for each part that stands as JSON.
func (r *Request) length(p prompt) int64 {
	switch p.kind {
	case idsPrompt:
		return 4 * int64(p.tokens)
	case chatPrompt:
		return int64(r.PromptBytes)
	case messagesPrompt, responsesPrompt:
		return int64(r.PromptBytes) + 16 // strings that become messages
	}
	n := p.end - p.start
	if f := r.given("suffix"); f != nil {
		n += f.End - f.Start
	}
	return int64(n)
}

// seed returns the chain's first value for the prompt at index i: a hash of the namespace, the
// prompt's kind and the members of the body that shape all of it.
func (w *writer) seed(kind promptKind, i int, ns Namespace) uint64 {
	h, _ := highwayhash.NewDigest64(w.key[:]) // the key has the right length
	w.side = &h.Digest
	var length [8]byte
	w.writeString(seedDomain)
	w.write([]byte{Ladder1, byte(kind)})
	for _, s := range [...]string{ns.Model, ns.LoRA, ns.Salt, ns.Tenant} {
		w.write(binary.LittleEndian.AppendUint64(length[:0], uint64(len(s))))
		w.writeString(s)
	}
	switch {
	case kind == messagesPrompt:
		w.shapeMessages()
	case kind == responsesPrompt:
		w.shapeResponses()
	case kind == chatPrompt || w.Route == Generate:
		w.renderShaping(i)
	}
	w.side = nil
	return h.Sum64()
}

// renderShaping writes the members that shape a whole prompt, in a fixed order. Null and empty ones
// are as good as absent.
func (w *writer) renderShaping(i int) {
	for _, key := range [...]string{
		"chat_template_kwargs", "reasoning_effort", "reasoning", // chat
		"image_data", "video_data", "audio_data", "modalities", "session_params", // generate
		"use_audio_in_video", "images_config", "max_dynamic_patch", "min_dynamic_patch",
		"image_max_dynamic_patch", "video_max_dynamic_patch",
	} {
		f := w.given(key)
		if f == nil || f.Root < 0 || key == "session_params" && w.Route != Generate {
			continue
		}
		at := f.Root
		if w.hollow(at) {
			continue
		}
		if w.doc.Nodes[at].Kind == jsonscan.Array && w.Batch {
			at = w.ofBatch(at, i)
		}
		w.write([]byte{markField})
		w.writeString(key)
		w.write([]byte{markString})
		w.renderJSON(at)
	}
}

// hollow reports whether a node is an empty list or object.
func (r *Request) hollow(at int) bool {
	n := r.doc.Nodes[at]
	return (n.Kind == jsonscan.Array || n.Kind == jsonscan.Object) && int(n.Next) == at+1
}

// ofBatch returns the node of the element of a list that belongs to prompt i, if the list has one
// for each prompt; otherwise all of it belongs to every prompt.
func (w *writer) ofBatch(list, i int) int {
	element, count := list, 0
	for k, at := range w.doc.Elems(list) {
		if k == i {
			element = at
		}
		count++
	}
	if count != w.Prompts {
		return list
	}
	return element
}
