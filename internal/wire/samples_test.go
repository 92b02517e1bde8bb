package wire_test

import (
	"slices"

	"github.com/radixbus/radixbus/internal/wire"
)

// message is what all kinds have in common.
type message interface{ AppendTo([]byte) []byte }

// A kindCase is one message kind with a value of it in which every field is set, no two fields of a kind alike.
type kindCase struct {
	name  string // in wire.proto
	kind  wire.Kind
	full  message
	zero  message
	parse func([]byte) (message, error)
}

// kindCases lists every kind, in order.
func kindCases() []kindCase {
	return []kindCase{
		byPointer(wire.KindAssignRequest, "AssignRequest", fullAssignRequest(), wire.ParseAssignRequest),
		byPointer(wire.KindAssignReply, "AssignReply", fullAssignReply(), wire.ParseAssignReply),
		byPointer(wire.KindDispatch, "Dispatch", fullDispatch(), wire.ParseDispatch),
		byPointer(wire.KindPart, "Part", fullPart(), wire.ParsePart),
		byValue(wire.KindPartAck, "PartAck", &wire.PartAck{Stream: 301, Received: 302}, wire.ParsePartAck),
		byPointer(wire.KindFrames, "Frames", fullFrames(), parseFrames),
		byValue(wire.KindPing, "Ping", fullPing(), wire.ParsePing),
		byValue(wire.KindPong, "Pong", fullPong(), wire.ParsePong),
		byValue(wire.KindCancel, "Cancel", fullCancel(), wire.ParseCancel),
		byValue(wire.KindAck, "Ack", fullAck(), wire.ParseAck),
		byValue(wire.KindResend, "Resend", &wire.Resend{Gateway: "gw-1", Stream: 301, From: 302}, wire.ParseResend),
		byPointer(wire.KindAssigned, "Assigned", fullAssigned(), wire.ParseAssigned),
		byPointer(wire.KindFinished, "Finished", fullFinished(), wire.ParseFinished),
		byPointer(wire.KindLoad, "Load", fullLoad(), wire.ParseLoad),
		byValue(wire.KindUp, "Up", fullUp(), wire.ParseUp),
		byValue(wire.KindDown, "Gone", fullGone(), wire.ParseGone),
	}
}

// messageOf is a pointer to T that is a message.
type messageOf[T any] interface {
	*T
	message
}

func byPointer[T any, P messageOf[T]](k wire.Kind, name string, full P, parse func([]byte) (P, error)) kindCase {
	return kindCase{name, k, full, P(new(T)), func(b []byte) (message, error) {
		m, err := parse(b)
		if err != nil {
			return nil, err
		}
		return m, nil
	}}
}

func byValue[T any, P messageOf[T]](k wire.Kind, name string, full P, parse func([]byte) (T, error)) kindCase {
	return byPointer(k, name, full, func(b []byte) (P, error) {
		m, err := parse(b)
		return P(&m), err
	})
}

// frames is a whole message of frames, so that it can be tested like the others.
type frames struct {
	Worker   string
	Instance wire.Instance
	Frames   []wire.Frame
}

func (m *frames) AppendTo(dst []byte) []byte {
	dst = wire.AppendFrames(dst, m.Worker, m.Instance)
	for i := range m.Frames {
		dst = wire.AppendFrame(dst, &m.Frames[i])
	}
	return dst
}

// parseFrames keeps copies, as a caller must: the frame is reused and data are slices of msg. A message without a
// frame tells nobody its worker.
func parseFrames(msg []byte) (*frames, error) {
	m := new(frames)
	err := wire.ParseFrames(msg, func(worker []byte, n wire.Instance, f *wire.Frame) bool {
		m.Worker, m.Instance = string(worker), n
		g := *f
		g.Data = slices.Clone(f.Data)
		m.Frames = append(m.Frames, g)
		return true
	})
	return m, err
}

// requestID is an id of 16 bytes that count up from first.
func requestID(first byte) (id wire.RequestID) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func fullDigests() []wire.Digest {
	return []wire.Digest{
		{KeyID: 401, Ladder: 41, Bytes: 402, Hashes: []uint64{0x4040404040404041, 0x4040404040404042}},
		{KeyID: 403, Ladder: 43, Bytes: 404, Hashes: []uint64{0x4040404040404043, 0x4040404040404044}},
	}
}

func fullEdits() []wire.Edit {
	return []wire.Edit{
		{Key: "routed_dp_rank", Value: []byte(`3`)},
		{Key: "extra_key", Value: []byte(`"salt"`)},
	}
}

func fullHeaders() []wire.Header {
	return []wire.Header{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "text/event-stream"},
	}
}

func fullEnd() wire.End {
	return wire.End{
		Code: wire.CodeEngineBroke, Message: "connection reset", RetryAfterMillis: 501, Prompt: 502, Completion: 503,
		CachedPlus1: 504, TTFTMicros: 505, TotalMicros: 506, Finish: "stop", WeightVersion: "v7", Begun: true,
	}
}

func fullStamp() wire.Stamp {
	return wire.Stamp{Publisher: "publisher-1", Seq: 201, AtMicros: 1_767_225_600_000_000}
}

func fullAssignRequest() *wire.AssignRequest {
	return &wire.AssignRequest{
		Request: requestID(0xa0), Attempt: 3, Gateway: "gw-1", Pool: "meta-llama/Llama-3.1-8B", Model: "llama",
		LoRA: "sql", Tenant: "acme", Priority: wire.Interactive, RemainingMillis: 30_000, Session: "session-9",
		Salt: 0x5a17_5a17_5a17_5a17, MaxTokens: 256, N: 4, Flags: wire.FlagStream | wire.FlagUsage | wire.FlagDetails,
		WeightVersion: "v7", Regions: []string{"eu-west", "us-east"}, Fingerprint: 0xf17e_f17e_f17e_f17e,
		BodyBytes: 20_480, InputTokens: 5_120, Digests: fullDigests(),
		History: []wire.Outcome{
			{Attempt: 5, Worker: "w-1", Instance: 0x0101010101010101, Code: wire.CodeBusy},
			{Attempt: 2, Worker: "w-2", Instance: 0x0202020202020202, Code: wire.CodeEngineDown},
		},
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "vendor=value", Engine: "engine-1", RankPlus1: 7, EnginePriority: -5,
	}
}

func fullAssignReply() *wire.AssignReply {
	return &wire.AssignReply{
		Request: requestID(0xa0), Attempt: 3, Scheduler: "sched-1", Verdict: wire.Refused, Code: wire.CodeOverloaded,
		RetryAfterMillis: 1_500, Message: "every worker is full",
		Placements: []wire.Placement{
			{
				Role: wire.Prefill, Worker: "w-1", Instance: 0x0101010101010101, Region: "eu-west", Lease: 601,
				LeaseMillis: 602, Prompt: 603, Predicted: 604, Edits: fullEdits(),
			},
			{
				Role: wire.Decode, Worker: "w-2", Instance: 0x0202020202020202, Region: "us-east", Lease: 605,
				LeaseMillis: 606, Prompt: 607, Predicted: 608,
				Edits: []wire.Edit{{Key: "priority", Value: []byte(`-1`)}, {Key: "stamp", Value: []byte(`true`)}},
			},
		},
	}
}

func fullDispatch() *wire.Dispatch {
	return &wire.Dispatch{
		Request: requestID(0xa0), Attempt: 3, Instance: 0x0101010101010101, Stream: 301, Gateway: "gw-1", Shard: 2,
		Scheduler: "sched-1", Lease: 601, Pool: "meta-llama/Llama-3.1-8B", Model: "llama", Tenant: "acme",
		Label: "client-label", Method: "POST", Path: "/v1/completions?x=1", Headers: fullHeaders(),
		RemainingMillis: 30_000, Window: wire.StreamWindow, Flags: wire.FlagStream | wire.FlagTools, Prompt: 603,
		Predicted: 604, Edits: fullEdits(), Open: 4, Empty: true,
		Points: []wire.Point{
			{Key: "routing", KeyStart: 5, Start: 12, End: 20},
			{Key: "salt", KeyStart: 22, Start: 31, End: 33},
		},
		N: 6, Prompts: 7, Size: 20_480, Body: []byte(`    {"prompt":"once upon`),
	}
}

func fullPart() *wire.Part {
	return &wire.Part{Gateway: "gw-1", Stream: 301, Instance: 0x0101010101010101, Offset: 24, Body: []byte(` a time"}`)}
}

func fullFrames() *frames {
	end := fullEnd()
	return &frames{Worker: "w-1", Instance: 0x0101010101010101, Frames: []wire.Frame{
		{Type: wire.FrameHead, Stream: 301, Attempt: 31, Seq: 32, Status: 200, Headers: fullHeaders()},
		{Type: wire.FrameData, Stream: 302, Attempt: 33, Seq: 34, Data: []byte("data: {}\n\n")},
		{Type: wire.FrameEnd, Stream: 303, Attempt: 35, Seq: 36, End: &end},
	}}
}

func fullPing() *wire.Ping {
	return &wire.Ping{
		Worker: "w-1", Instance: 0x0101010101010101,
		Sent: []wire.Mark{{Stream: 301, Seq: 302}, {Stream: 303, Seq: 304}},
	}
}

func fullPong() *wire.Pong {
	return &wire.Pong{
		Gateway: "gw-1", Through: []wire.Mark{{Stream: 301, Seq: 302}, {Stream: 303, Seq: 304}},
		Unknown: []uint64{305, 306},
	}
}

func fullCancel() *wire.Cancel {
	return &wire.Cancel{Gateway: "gw-1", Stream: 301, Instance: 0x0101010101010101, Code: wire.CodeCancelled}
}

func fullAck() *wire.Ack {
	return &wire.Ack{Gateway: "gw-1", Through: []wire.Mark{{Stream: 301, Seq: 302}, {Stream: 303, Seq: 304}}}
}

func fullAssigned() *wire.Assigned {
	return &wire.Assigned{
		Stamp: fullStamp(), Region: "eu-west", Pool: "meta-llama/Llama-3.1-8B", Request: requestID(0xa0), Attempt: 3,
		Worker: "w-1", Instance: 0x0101010101010101, Lease: 601, LeaseMillis: 602, Model: "llama", Tenant: "acme",
		Session: "session-9", Priority: wire.Batch, Policy: "radix", Prompt: 603, Predicted: 604, MaxTokens: 256,
		Digests: fullDigests(), Fingerprint: 0xf17e_f17e_f17e_f17e, EnginePriority: 5, Flags: wire.FlagStream | wire.FlagOpens,
	}
}

func fullFinished() *wire.Finished {
	return &wire.Finished{
		Stamp: fullStamp(), Worker: "w-1", Instance: 0x0101010101010101, Request: requestID(0xa0), Attempt: 3,
		Lease: 601, QueueMicros: 602, Predicted: 604, End: fullEnd(),
	}
}

func fullLoad() *wire.Load {
	return &wire.Load{
		Stamp: fullStamp(), Worker: "w-1", Instance: 0x0101010101010101, Running: 61, Waiting: 62,
		Leases:     []wire.LeaseRef{{Request: requestID(0xa0), Attempt: 3}, {Request: requestID(0xc0), Attempt: 4}},
		UsedTokens: 70_000, Truncated: true,
	}
}

func fullUp() *wire.Up {
	return &wire.Up{
		Stamp: fullStamp(), Worker: "w-1", Instance: 0x0101010101010101, InfoHash: 0x1f01f01f01f01f01,
		State: wire.Draining, BeatMillis: 1_000,
	}
}

func fullGone() *wire.Gone {
	return &wire.Gone{Stamp: fullStamp(), Worker: "w-1", Instance: 0x0101010101010101, Code: wire.CodeEngineDown}
}
