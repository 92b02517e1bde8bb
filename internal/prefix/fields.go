package prefix

import "github.com/radixbus/radixbus/internal/jsonscan"

// Editable reports whether a top-level member is among a [Request]'s Points, that is, whether a gateway or
// adapter may set it: identity and placement (rid, request_id, model, lora_path, priority, routed_dp_rank,
// data_parallel_rank, extra_key, cache_salt, session_id, session_params (an engine refuses one beside the other),
// conversation_id, previous_response_id, routing_key, user), what the answer must carry (stream, stream_options, return_cached_tokens_details), and what
// resuming a broken stream changes (messages, prompt, text, input_ids, continue_final_message, add_generation_prompt,
// max_tokens, max_completion_tokens, max_output_tokens, min_tokens, sampling_params).
func Editable(key string) bool {
	switch key {
	case "rid", "request_id", "model", "lora_path", "priority", "routed_dp_rank", "data_parallel_rank", "extra_key", "cache_salt",
		"session_id", "session_params", "conversation_id", "previous_response_id", "routing_key", "user",
		"stream", "stream_options", "return_cached_tokens_details",
		"messages", "prompt", "text", "input_ids", "continue_final_message", "add_generation_prompt", "max_tokens",
		"max_completion_tokens", "max_output_tokens", "min_tokens", "sampling_params":
		return true
	}
	return false
}

// wantAny asks for what all routes have in common. Editable members are asked for on every route,
// known there or not, so that an edit cannot put a key into a body twice.
func wantAny(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "model":
		return "model", jsonscan.Note
	case "stream":
		return "stream", jsonscan.Note
	case "stream_options":
		return "stream_options", jsonscan.Tape
	case "rid":
		return "rid", jsonscan.Tape
	case "lora_path":
		return "lora_path", jsonscan.Tape
	case "extra_key":
		return "extra_key", jsonscan.Tape
	case "cache_salt":
		return "cache_salt", jsonscan.Tape
	case "priority":
		return "priority", jsonscan.Note
	case "routed_dp_rank":
		return "routed_dp_rank", jsonscan.Note
	case "data_parallel_rank":
		return "data_parallel_rank", jsonscan.Note
	case "session_id":
		return "session_id", jsonscan.Note
	case "session_params":
		return "session_params", jsonscan.Tape
	case "conversation_id":
		return "conversation_id", jsonscan.Note
	case "routing_key":
		return "routing_key", jsonscan.Note
	case "user":
		return "user", jsonscan.Note
	case "request_id":
		return "request_id", jsonscan.Note
	case "previous_response_id":
		return "previous_response_id", jsonscan.Note
	case "max_output_tokens":
		return "max_output_tokens", jsonscan.Note
	case "return_cached_tokens_details":
		return "return_cached_tokens_details", jsonscan.Note
	case "return_hidden_states":
		return "return_hidden_states", jsonscan.Note
	case "bootstrap_host":
		return "bootstrap_host", jsonscan.Note
	case "use_audio_in_video":
		return "use_audio_in_video", jsonscan.Tape
	case "max_dynamic_patch":
		return "max_dynamic_patch", jsonscan.Tape
	case "min_dynamic_patch":
		return "min_dynamic_patch", jsonscan.Tape
	case "images_config":
		return "images_config", jsonscan.Tape
	case "messages":
		return "messages", jsonscan.Note
	case "prompt":
		return "prompt", jsonscan.Note
	case "text":
		return "text", jsonscan.Note
	case "input_ids":
		return "input_ids", jsonscan.Note
	case "continue_final_message":
		return "continue_final_message", jsonscan.Note
	case "add_generation_prompt":
		return "add_generation_prompt", jsonscan.Note
	case "max_tokens":
		return "max_tokens", jsonscan.Note
	case "max_completion_tokens":
		return "max_completion_tokens", jsonscan.Note
	case "min_tokens":
		return "min_tokens", jsonscan.Note
	case "sampling_params":
		return "sampling_params", jsonscan.Note
	}
	return "", jsonscan.Skip
}

// wantOpenAI adds what chat and completions share.
func wantOpenAI(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "n":
		return "n", jsonscan.Note
	case "ignore_eos":
		return "ignore_eos", jsonscan.Note
	case "response_format":
		return "response_format", jsonscan.Tape
	case "json_schema":
		return "json_schema", jsonscan.Note
	case "regex":
		return "regex", jsonscan.Note
	case "ebnf":
		return "ebnf", jsonscan.Note
	case "structural_tag":
		return "structural_tag", jsonscan.Note
	case "logprobs":
		return "logprobs", jsonscan.Note
	}
	return wantAny(key)
}

func wantChat(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "messages":
		return "messages", jsonscan.Tape
	case "tools":
		return "tools", jsonscan.Tape
	case "tool_choice":
		return "tool_choice", jsonscan.Tape
	case "chat_template_kwargs":
		return "chat_template_kwargs", jsonscan.Tape
	case "reasoning_effort":
		return "reasoning_effort", jsonscan.Tape
	case "reasoning":
		return "reasoning", jsonscan.Tape
	case "top_logprobs":
		return "top_logprobs", jsonscan.Note
	}
	return wantOpenAI(key)
}

func wantCompletions(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "echo":
		return "echo", jsonscan.Note
	case "suffix":
		return "suffix", jsonscan.Note
	}
	return wantOpenAI(key)
}

func wantGenerate(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "sampling_params":
		return "sampling_params", jsonscan.Tape
	case "input_embeds":
		return "input_embeds", jsonscan.Note
	case "image_data":
		return "image_data", jsonscan.Tape
	case "video_data":
		return "video_data", jsonscan.Tape
	case "audio_data":
		return "audio_data", jsonscan.Tape
	case "modalities":
		return "modalities", jsonscan.Tape
	case "image_max_dynamic_patch":
		return "image_max_dynamic_patch", jsonscan.Tape
	case "video_max_dynamic_patch":
		return "video_max_dynamic_patch", jsonscan.Tape
	case "return_logprob":
		return "return_logprob", jsonscan.Note
	}
	return wantAny(key)
}

func wantMessages(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "messages":
		return "messages", jsonscan.Tape
	case "system":
		return "system", jsonscan.Tape
	case "tools":
		return "tools", jsonscan.Tape
	case "tool_choice":
		return "tool_choice", jsonscan.Tape
	case "thinking":
		return "thinking", jsonscan.Tape
	case "output_config":
		return "output_config", jsonscan.Tape
	case "metadata":
		return "metadata", jsonscan.Tape
	}
	return wantAny(key)
}

func wantResponses(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "input":
		return "input", jsonscan.Tape
	case "instructions":
		return "instructions", jsonscan.Note
	case "tools":
		return "tools", jsonscan.Tape
	case "tool_choice":
		return "tool_choice", jsonscan.Tape
	case "chat_template_kwargs":
		return "chat_template_kwargs", jsonscan.Tape
	case "reasoning":
		return "reasoning", jsonscan.Tape
	case "text":
		return "text", jsonscan.Tape
	case "include":
		return "include", jsonscan.Tape
	case "store":
		return "store", jsonscan.Note
	case "background":
		return "background", jsonscan.Note
	}
	return wantAny(key)
}

// wantByLoad asks for what may stand for work on any of the routes.
func wantByLoad(key []byte) (string, jsonscan.Mode) {
	switch string(key) {
	case "input":
		return "input", jsonscan.Note
	case "query":
		return "query", jsonscan.Note
	case "documents":
		return "documents", jsonscan.Note
	case "items":
		return "items", jsonscan.Note
	case "tokens":
		return "tokens", jsonscan.Note
	case "system":
		return "system", jsonscan.Note
	case "tools":
		return "tools", jsonscan.Note
	case "image_data":
		return "image_data", jsonscan.Note
	case "video_data":
		return "video_data", jsonscan.Note
	case "audio_data":
		return "audio_data", jsonscan.Note
	}
	return wantAny(key)
}
