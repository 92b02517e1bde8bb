package nullengine

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// counts are the tokens of an answer.
type counts struct{ prompt, output int }

// A form is how one of the routes words its answers. Its functions append.
type form struct {
	finished, aborted string // reasons
	cumulative        bool   // every event repeats all text so far

	document func(b []byte, t *texts, id, text []byte, n counts, reason string) []byte
	opening  func(b []byte, t *texts, id []byte) []byte // before the first token; nil: none
	token    func(b []byte, t *texts, id, text []byte, so counts, last bool) []byte
	closing  func(b []byte, t *texts, id []byte, n counts, reason string, usage bool) []byte // nil: none
}

// texts are what does not change from one answer to the next.
type texts struct {
	model     []byte // with created before it, as members of every answer
	documents map[string][]byte
}

func newTexts(model string, created int64) texts {
	name := string(must(json.Marshal(model)))
	const window = 1 << 20
	models := fmt.Sprintf(`{"object":"list","data":[{"id":%s,"object":"model","created":%d,"owned_by":"sglang","root":%s,"parent":null,"max_model_len":%d}]}`,
		name, created, name, window)
	// Capacity for what a benchmark has under way: a router that watches it is not to refuse.
	server := fmt.Sprintf(`{"version":"0.5.15","model_path":%s,"served_model_name":%s,"tokenizer_path":%s,"dp_size":1,"tp_size":1,"page_size":1,`+
		`"max_total_num_tokens":%d,"max_running_requests":65536,"context_length":%d,"radix_eviction_policy":"lru","enable_cache_report":true,`+
		`"weight_version":"default","internal_states":[{"effective_max_running_requests_per_dp":65536,"memory_usage":{"token_capacity":%d}}]}`,
		name, name, name, 1<<34, window, 1<<34)
	info := fmt.Sprintf(`{"model_path":%s,"tokenizer_path":%s,"is_generation":true,"preferred_sampling_params":null,"weight_version":"default",`+
		`"has_image_understanding":false,"has_audio_understanding":false,"model_type":"llama","architectures":["LlamaForCausalLM"]}`, name, name)
	return texts{
		model: fmt.Appendf(nil, `","created":%d,"model":%s`, created, name),
		documents: map[string][]byte{
			"/health": nil, "/health_generate": nil, "/flush_cache": []byte("Cache flushed.\n"),
			"/v1/models":   []byte(models),
			"/server_info": []byte(server), "/get_server_info": []byte(server),
			"/model_info": []byte(info), "/get_model_info": []byte(info),
		},
	}
}

func must(doc []byte, err error) []byte {
	if err != nil {
		panic(err) // a string is always JSON
	}
	return doc
}

// loads tells how many requests are under way, that for the load itself aside.
func (e *Engine) loads(path string) []byte {
	running := e.live.Load() - 1
	if path == "/get_load" {
		return fmt.Appendf(nil, `[{"dp_rank":0,"num_reqs":%d,"num_waiting_reqs":0,"num_tokens":0}]`, running)
	}
	return fmt.Appendf(nil, `{"version":"0.5.15","dp_rank_count":1,"loads":[{"dp_rank":0,"num_running_reqs":%d,"num_waiting_reqs":0,"num_used_tokens":0,"max_total_num_tokens":%d}]}`,
		running, 1<<34)
}

func appendToken(b []byte, i int) []byte {
	b = strconv.AppendInt(append(b, 't'), int64(i), 10)
	return append(b, ' ')
}

func appendUsage(b []byte, n counts) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), int64(n.prompt), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(n.output), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(n.prompt+n.output), 10)
	return append(b, `,"prompt_tokens_details":{"cached_tokens":0}}`...)
}

// begin writes what every document of a kind begins with.
func begin(b []byte, t *texts, id []byte, object string) []byte {
	b = append(append(b, `{"id":"`...), id...)
	b = append(append(b, `","object":"`...), object...)
	return append(b, t.model...)
}

var chat = form{
	finished: "length", aborted: "abort",
	document: func(b []byte, t *texts, id, text []byte, n counts, reason string) []byte {
		b = begin(b, t, id, "chat.completion")
		b = append(append(b, `,"choices":[{"index":0,"message":{"role":"assistant","content":"`...), text...)
		b = append(append(b, `","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":"`...), reason...)
		return append(appendUsage(append(b, `","matched_stop":null}],"usage":`...), n), '}')
	},
	opening: func(b []byte, t *texts, id []byte) []byte {
		return chatEvent(b, t, id, `"role":"assistant","content":""`, nil, `,"reasoning_content":null,"tool_calls":null`, "null")
	},
	token: func(b []byte, t *texts, id, text []byte, _ counts, _ bool) []byte {
		return chatEvent(b, t, id, `"role":null,"content":"`, text, `","reasoning_content":null,"tool_calls":null`, "null")
	},
	closing: func(b []byte, t *texts, id []byte, n counts, reason string, usage bool) []byte {
		b = chatEvent(b, t, id, `"role":null,"content":null`, nil, "", strconv.Quote(reason))
		if usage {
			b = appendUsage(append(begin(append(b, "data: "...), t, id, "chat.completion.chunk"), `,"choices":[],"usage":`...), n)
			b = append(b, "}\n\n"...)
		}
		return b
	},
}

func chatEvent(b []byte, t *texts, id []byte, before string, text []byte, after, reason string) []byte {
	b = begin(append(b, "data: "...), t, id, "chat.completion.chunk")
	b = append(append(b, `,"choices":[{"index":0,"delta":{`...), before...)
	b = append(append(b, text...), after...)
	b = append(append(b, `},"logprobs":null,"finish_reason":`...), reason...)
	return append(b, `,"matched_stop":null}],"usage":null}`+"\n\n"...)
}

var completion = form{
	finished: "length", aborted: "abort",
	document: func(b []byte, t *texts, id, text []byte, n counts, reason string) []byte {
		b = begin(b, t, id, "text_completion")
		b = append(append(b, `,"choices":[{"index":0,"text":"`...), text...)
		b = append(append(b, `","logprobs":null,"finish_reason":"`...), reason...)
		return append(appendUsage(append(b, `","matched_stop":null}],"usage":`...), n), '}')
	},
	token: func(b []byte, t *texts, id, text []byte, _ counts, _ bool) []byte {
		return textEvent(b, t, id, text, "null")
	},
	closing: func(b []byte, t *texts, id []byte, n counts, reason string, usage bool) []byte {
		b = textEvent(b, t, id, nil, strconv.Quote(reason))
		if usage {
			b = appendUsage(append(begin(append(b, "data: "...), t, id, "text_completion"), `,"choices":[],"usage":`...), n)
			b = append(b, "}\n\n"...)
		}
		return b
	},
}

func textEvent(b []byte, t *texts, id, text []byte, reason string) []byte {
	b = begin(append(b, "data: "...), t, id, "text_completion")
	b = append(append(b, `,"choices":[{"index":0,"text":"`...), text...)
	b = append(append(b, `","logprobs":null,"finish_reason":`...), reason...)
	return append(b, `,"matched_stop":null}],"usage":null}`+"\n\n"...)
}

// native is /generate's: every event repeats all text so far, and the last one says why it is the last.
var native = form{
	finished: nativeFinish, aborted: `{"type":"abort","message":"Aborted","status_code":null}`, cumulative: true,
	document: func(b []byte, _ *texts, id, text []byte, n counts, reason string) []byte {
		return nativeDocument(b, id, text, n, reason)
	},
	token: func(b []byte, _ *texts, id, text []byte, so counts, last bool) []byte {
		reason := "null"
		if last {
			reason = nativeFinish
		}
		return append(nativeDocument(append(b, "data: "...), id, text, so, reason), "\n\n"...)
	},
	closing: func(b []byte, _ *texts, id []byte, n counts, reason string, _ bool) []byte {
		if reason == nativeFinish {
			return b
		}
		return append(nativeDocument(append(b, "data: "...), id, nil, n, reason), "\n\n"...)
	},
}

const nativeFinish = `{"type":"length"}`

func nativeDocument(b []byte, id, text []byte, n counts, reason string) []byte {
	b = append(append(b, `{"text":"`...), text...)
	b = append(append(b, `","output_ids":[1],"meta_info":{"id":"`...), id...)
	b = append(append(b, `","finish_reason":`...), reason...)
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), int64(n.prompt), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(n.output), 10)
	return append(b, `,"cached_tokens":0,"weight_version":"default"}}`...)
}
