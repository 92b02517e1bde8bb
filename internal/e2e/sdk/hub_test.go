// Package sdk_test asks the official SDKs whether radixbus is what it says: an endpoint of OpenAI's API, and of Anthropic's.
//
// It is a module of its own, so that the SDKs' dependencies stay out of the product's graph. The tests build the
// program from the parent module, run it as processes and talk to it as any user would, over loopback only.
//
// # Flow
//
// A conformance run is [TestSDKsOnSimulatedEngines] or [TestSDKsOnSGLang]. It sets up a [target], which is a hub in front of
// engines, and runs the suite of one SDK after the other against it. The suite of the Go SDK stands in golang_*_test.go; the others are programs in
// suites/, which are told the target in JSON and tell a line of JSON about each check. What takes more than a client, such
// as a gateway that dies, they ask of a [stage]. The table at the end has a row for each check.
//
// The other tests look at both ends: the Go SDK on one side, and on the other an [engine] whose answers are scripted.
package sdk_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// TestMain gives the built program a folder that outlives single tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "radixbus-sdk-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	build.dir = dir
	code := m.Run()
	os.RemoveAll(dir) //nolint:errcheck // the system's temporary folder is swept by others
	os.Exit(code)
}

// onFreePorts are the arguments of `radixbus up` beside somebody else's.
var onFreePorts = []string{"up", "--port", "0", "--admin-port", "0"}

// up starts `radixbus up` in front of engines and returns its URL once all of them are there.
func up(t *testing.T, engines []string, args ...string) string {
	t.Helper()
	args = append(append([]string(nil), onFreePorts...), args...)
	for _, url := range engines {
		args = append(args, "--engine", url)
	}
	url := run(t, args...).url
	if err := ready(url, len(engines)); err != nil {
		t.Fatal(err)
	}
	return url
}

// ready waits until a hub has so many workers.
func ready(url string, workers int) error {
	var told struct {
		Healthy int `json:"healthy_workers"`
	}
	var err error
	for end := time.Now().Add(startBound); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = fetch(url+"/readiness", &told); err == nil && told.Healthy == workers {
			return nil
		}
	}
	return fmt.Errorf("%s has %d of %d workers after %v: %w", url, told.Healthy, workers, startBound, err)
}

// fetch reads a document, of whatever status.
func fetch(url string, into any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// client is the official client as its documentation sets it up: a base URL and a key.
func client(url string, opts ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(url + "/v1"), option.WithAPIKey("of-no-meaning")}, opts...)...)
}

// ask is a chat of one question with reproducible words.
func ask(model, question string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       model,
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
		MaxTokens:   openai.Int(answerTokens),
		Temperature: openai.Float(0),
	}
}

// answerTokens bounds the answers that are asked for.
const answerTokens = 24
