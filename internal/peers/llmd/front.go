package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
)

const (
	maxBody     = 256 << 20
	chunk       = 32 << 10 // the buffer of a connection in the Envoy configuration that the picker comes with
	destination = "x-gateway-destination-endpoint"
)

// A front hands every request to the picker first, and its answer too, chunk by chunk.
type front struct {
	picker  extproc.ExternalProcessorClient
	engines *http.Client
}

func newFront(conn *grpc.ClientConn) *front {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}
	return &front{picker: extproc.NewExternalProcessorClient(conn), engines: &http.Client{Transport: transport}}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	started := false
	if err := f.exchange(w, r, body, &started); err == nil {
		return
	} else if refused, ok := errors.AsType[*refusal](err); ok {
		w.WriteHeader(refused.status)
		_, _ = w.Write(refused.body)
	} else if r.Context().Err() == nil {
		log.Print(err)
		if started {
			panic(http.ErrAbortHandler) // the client sees that the answer is cut
		}
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// exchange tells in started whether the answer's head has gone out.
func (f *front) exchange(w http.ResponseWriter, r *http.Request, body []byte, started *bool) error {
	stream, err := f.picker.Process(r.Context())
	if err != nil {
		return fmt.Errorf("ask the picker: %w", err)
	}
	target, body, err := pick(stream, r, body)
	if err != nil {
		return err
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	out.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	answer, err := f.engines.Do(out)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	defer answer.Body.Close()

	sent := make(chan error, 1)
	go func() { sent <- tellAnswer(stream, answer) }()
	if err := writeAnswer(w, stream, answer, started); err != nil {
		return err
	}
	return <-sent
}

// A refusal is the picker's own answer to a request.
type refusal struct {
	status int
	body   []byte
}

func (r *refusal) Error() string { return fmt.Sprintf("the picker refused: %d", r.status) }

// pick shows the picker a request; it names the engine, and returns the body that the engine gets.
func pick(stream extproc.ExternalProcessor_ProcessClient, r *http.Request, body []byte) (target string, out []byte, err error) {
	head := headers(r.Header, ":method", r.Method, ":path", r.URL.RequestURI(), ":authority", r.Host, ":scheme", "http")
	err = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: head},
	}})
	if err != nil {
		return "", nil, fmt.Errorf("show the head: %w", err)
	}
	for first := true; first || len(body) > 0; first = false {
		part := body[:min(len(body), chunk)]
		body = body[len(part):]
		err := stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
			RequestBody: &extproc.HttpBody{Body: part, EndOfStream: len(body) == 0},
		}})
		if err != nil {
			return "", nil, fmt.Errorf("show the body: %w", err)
		}
	}
	for {
		said, err := stream.Recv()
		if err != nil {
			return "", nil, fmt.Errorf("hear the choice: %w", err)
		}
		switch said := said.Response.(type) {
		case *extproc.ProcessingResponse_ImmediateResponse:
			return "", nil, &refusal{int(said.ImmediateResponse.GetStatus().GetCode()), said.ImmediateResponse.GetBody()}
		case *extproc.ProcessingResponse_RequestHeaders:
			for _, set := range said.RequestHeaders.GetResponse().GetHeaderMutation().GetSetHeaders() {
				if set.GetHeader().GetKey() == destination {
					target = string(set.GetHeader().GetRawValue())
				}
			}
		case *extproc.ProcessingResponse_RequestBody:
			part := said.RequestBody.GetResponse().GetBodyMutation().GetStreamedResponse()
			out = append(out, part.GetBody()...)
			if part.GetEndOfStream() {
				target, _, _ = strings.Cut(target, ",") // the first choice
				if target == "" {
					return "", nil, errors.New("the picker named no engine")
				}
				return target, out, nil
			}
		}
	}
}

// tellAnswer shows the picker the engine's answer as it comes.
func tellAnswer(stream extproc.ExternalProcessor_ProcessClient, answer *http.Response) error {
	head := headers(answer.Header, ":status", fmt.Sprint(answer.StatusCode))
	err := stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extproc.HttpHeaders{Headers: head},
	}})
	buffer := make([]byte, chunk)
	for ended := false; err == nil && !ended; {
		n, readErr := answer.Body.Read(buffer)
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("read the answer: %w", readErr)
		}
		ended = readErr == io.EOF
		err = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: bytes.Clone(buffer[:n]), EndOfStream: ended},
		}})
	}
	if err != nil {
		return fmt.Errorf("show the answer: %w", err)
	}
	return stream.CloseSend()
}

// writeAnswer gives the client what the picker hands back.
func writeAnswer(w http.ResponseWriter, stream extproc.ExternalProcessor_ProcessClient, answer *http.Response, started *bool) error {
	flush := http.NewResponseController(w)
	for {
		said, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("hear the answer: %w", err)
		}
		switch said := said.Response.(type) {
		case *extproc.ProcessingResponse_ResponseHeaders:
			w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
			w.WriteHeader(answer.StatusCode)
			*started = true
		case *extproc.ProcessingResponse_ResponseBody:
			part := said.ResponseBody.GetResponse().GetBodyMutation().GetStreamedResponse()
			if _, err := w.Write(part.GetBody()); err != nil {
				return err
			}
			if part.GetEndOfStream() {
				return nil
			}
			if err := flush.Flush(); err != nil {
				return err
			}
		}
	}
}

func headers(header http.Header, pseudo ...string) *corev3.HeaderMap {
	out := new(corev3.HeaderMap)
	add := func(key, value string) {
		out.Headers = append(out.Headers, &corev3.HeaderValue{Key: key, RawValue: []byte(value)})
	}
	for i := 0; i < len(pseudo); i += 2 {
		add(pseudo[i], pseudo[i+1])
	}
	for key, values := range header {
		add(strings.ToLower(key), strings.Join(values, ","))
	}
	return out
}
