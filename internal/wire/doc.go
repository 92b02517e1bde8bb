// Package wire is the language that Radixbus processes speak on the bus: subjects, messages, bounds and error
// codes. It knows nothing of connections; it turns values into bytes and back.
//
// # Subjects
//
// With the default prefix rb; the version is part of every name. Names from outside are passed through [Token].
//
//	subject                                       publisher   listener    payload
//	rb.v1.sched.<pool>                            gateway     scheduler   AssignRequest → AssignReply (queue group sched)
//	rb.v1.sched.<pool>.<scheduler>                gateway     scheduler   the same, to one of them
//	rb.v1.work.<worker>.<instance>                gateway     adapter     Dispatch, Part → PartAck
//	rb.v1.ctl.<worker>                            gateway     adapter     Cancel, Ack, Resend; JSON Ask → JSON WorkerInfo
//	rb.v1.out.<gateway>.<worker>.<shard>          adapter     gateway     Frames; Ping → Pong
//	rb.v1.ev.<region>.<pool>.assigned.<scheduler> scheduler   schedulers  Assigned
//	rb.v1.ev.<region>.<pool>.finished.<publisher> adapter     schedulers  Finished (a gateway's or scheduler's: never dispatched)
//	rb.v1.ev.<region>.<pool>.load.<worker>        adapter     schedulers  Load
//	rb.v1.ev.<region>.<pool>.up.<worker>          adapter     everyone    Up
//	rb.v1.ev.<region>.<pool>.down.<worker>        adapter     everyone    Down
//	rb.v1.status.scheduler                        anyone      schedulers  empty → JSON: pools and workers
//	rb.v1.roll                                    anyone      adapters    empty: "who is there?", answered by an Up event
//	rb.v1.burst.<region>.<pool>.<priority>.<req>  gateway     scheduler   the burst queue (reserved)
//
// The publisher stands in a subject wherever a stranger could forge, so that permissions can pin it.
//
// # Encoding
//
// A binary message is one version byte, one kind byte ([Kind]) and fields in the protocol-buffer wire format: a
// decoder skips fields it does not know, and a field that is zero is not sent. Field numbers are the `// n` comments
// beside each struct field, and wire.proto, for adapters in other languages; they are never reused. An unknown
// version or kind is refused with [CodeVersion], so an old reader never guesses. A first byte of '{' is a JSON
// message: the rare ones, readable with any NATS tool.
//
// Request bodies and answer bytes travel raw inside Body and Data fields.
//
// # Bounds
//
// Every decoder checks the bounds in bounds.go before it allocates; a message that breaks one is an error that wraps
// [ErrMalformed], never a panic. The value that comes with an error is of no use.
//
// # Identity
//
// (request, attempt, instance) names one try of a request on one life of one worker: it is the key of its lease, of
// its frames and of its events.
package wire
