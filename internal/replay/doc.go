// Package replay puts real load on an endpoint that speaks SGLang's HTTP API and reports what it saw.
//
// A [Workload] hands out conversations; [Run] keeps [Config.Concurrency] users busy with them. A user sends
// a turn, reads the whole reply, thinks, and sends the next turn (a closed loop: a slow endpoint is asked
// less often). Workloads are generated ([Multiturn]) or read from a recording ([OpenTrace]). The result is a
// [Report]: JSON for programs, [Report.WriteTable] for people.
//
// # Definitions
//
// All times are taken at the client, so they include the network, the router and its queues.
//
//   - First byte: the first byte of the reply's head minus the moment of sending; known without streams too.
//     Of a stream it may come long before any output.
//   - TTFT: the first non-empty output chunk (text, reasoning or a tool call) minus the moment of sending.
//     Known for streams only.
//   - ITL: every gap between successive output chunks of one request, pooled over all requests. A chunk may
//     carry several tokens, so ITL and TPOT differ.
//   - E2E: the end of the reply ([DONE], or the whole body without streaming) minus the moment of sending.
//   - TPOT: (E2E − TTFT) / (output tokens − 1) of one request with more than one output token.
//   - Hit rate: cached tokens / prompt tokens, both summed over requests (token-weighted), as the engine
//     reports them. What the engine does not report is null in JSON and "not reported" in the table.
//   - Throughputs: a sum over successful requests divided by the duration, which is first send to last finish.
//   - Percentiles interpolate linearly between the two nearest ranks, as numpy does by default. They are
//     exact up to [ExactSamples] values per metric; beyond that they come from a log-linear histogram with
//     an error below 1 %, and the report says so.
//
// Failed requests are in no latency, no throughput and no token sum. They are counted beside them, by [Kind].
//
// # Guarantees
//
// The same workload, seed and conversation number always give the same prompts, whatever the timing; which
// user gets which conversation is up to timing. A second run with the same seed therefore finds the first
// one's prompts in the engine's cache: flush it, or change the seed. Memory does not grow with the length of a run
// once the samples are full. When its context ends, Run sends nothing more, gives requests in flight
// [Config.Grace] to finish, and reports what it has.
//
// # Concurrency
//
// Every user is one goroutine that owns its connection, buffers and open conversations. They meet in the
// recorder, once per request. Run returns after all of them, and everything they opened, are gone.
package replay
