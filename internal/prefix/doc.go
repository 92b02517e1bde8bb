// Package prefix turns a request's body into what the gateway must know of it, and its prompt into
// digests: keyed hashes of the prompt's leading blocks, by which a scheduler tells how much of it a
// worker holds without seeing any of it.
//
// [Parse] scans a body once and returns a [Request]. [Request.Digests] renders each of its prompts in
// a canonical form, in the order in which the engine's template renders it, and hashes that as it goes:
//
//   - raw text (a completions prompt, a /generate text): its bytes;
//   - token ids: four bytes each, little endian, whatever field they came in (in a chat body they win over
//     the messages, in /generate over the text, as in the engine);
//   - a chat: the tools, then the messages, each as role, name, reasoning_content, content, tools,
//     tool_calls and tool_call_id. Text parts of a message are rendered back to back, so a string
//     equals one text part. Images, audio and video stand as a keyed hash of their reference or content;
//   - /v1/messages: the tools that the engine does not drop, the system prompt as a first message (its blocks are
//     joined by line breaks), then the messages as the engine takes them apart: an assistant's as thinking, content
//     and tool calls, a tool's result as a message of its own. Ids of calls and thoughts reach the engine's prompt and
//     stand here; cache_control, signatures, citations and is_error do not;
//   - /v1/responses: the tools, the instructions as a first message, then each item of the input as a message, without
//     the ids and states of items.
//
// What these two say twice over in the wire format, the engine renders alike and so does this package; what it moves
// (system messages between others, for templates that want one in front) stands where it was sent. What is unknown stands
// as canonical JSON.
//
// Bytes that valid UTF-8 never has (0xF8 to 0xFB) frame the pieces of a conversation, so two different ones are
// never rendered alike, and no lengths are written, so prompts that begin alike are rendered alike that far: the
// canonical form of a conversation is a byte prefix of that conversation's with more messages.
//
// What shapes the whole prompt rather than a place in it goes, with the [Namespace], into the chain's
// first value: the route's kind of prompt, chat_template_kwargs, reasoning_effort and reasoning, thinking and effort of
// /v1/messages, the multimodal controls, the media of /generate, and its session_params and the previous_response_id of
// /v1/responses (such a prompt is relative to what one engine holds).
// JSON spacing, key order, sampling parameters, stream and user matter nowhere; tool_choice matters as in the
// engine: "none" drops the tools, a named function drops the others.
//
// Routes on which nothing is generated ([Route.ByLoad]) have no digests. Their bodies are measured, and refused only for
// what any route refuses and for what an engine may die of: an empty prompt, a token id that is none.
//
// # Blocks
//
// h_i = H(key, h_{i-1} ‖ block_i), h_{-1} = H(key, namespace), H being HighwayHash-64. Block boundaries
// depend on the offset alone, see [LadderBytes]. An incomplete last block has no hash.
//
// # Guarantees
//
// Work and memory are linear in the body, and digests are bounded ([MaxHashes], [MaxDigests],
// [MaxTotalHashes]); what lies beyond is served, but not indexed. Every error of Parse is the client's
// and a *[FieldError]. Nothing of a prompt is kept in an error.
//
// # Concurrency
//
// A [Request] is not changed after Parse and may be shared. It refers to the body, which must not
// change while Digests may still be called.
package prefix
