package wire

// Bounds of the protocol. A decoder refuses what exceeds them; an encoder trusts its caller.
const (
	MaxName        = 256       // bytes of a worker, pool, model, tenant, gateway or region name
	MaxText        = 4 << 10   // bytes of an error text, and of an edit's value
	MaxPath        = 8 << 10   // bytes of an HTTP path with its query
	MaxHeaders     = 64        // forwarded headers of one request or answer
	MaxHeaderBytes = 32 << 10  // bytes of all of them, as encoded: up to 8 a header more than names and values
	MaxDigests     = 64        // digests of one request (a batch)
	MaxHashes      = 4096      // hashes of all its digests
	MaxHistory     = 16        // attempts told to a scheduler
	MaxPlacements  = 4         // placements of one reply
	MaxEdits       = 16        // edits of one placement
	MaxPoints      = 64        // edit points of one body
	MaxRegions     = 32        // regions a request is confined to
	MaxLeases      = 16 << 10  // leases named in one load report
	MaxStreams     = 64 << 10  // streams named in one ping, pong or ack
	MaxFrames      = 16 << 10  // frames in one message
	MaxBody        = 4 << 30   // bytes of one request body
	MaxPart        = 512 << 10 // bytes of one part of a body, and of one outgoing message of frames
	PartWindow     = 4 << 20   // bytes of a body that may be unacknowledged: core NATS drops for a slow reader
	StreamWindow   = 256 << 10 // bytes of one answer that may be unacknowledged
)
