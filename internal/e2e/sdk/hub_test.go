// Package sdk_test asks the official OpenAI client whether radixbus is what it says: an OpenAI endpoint.
//
// It is a module of its own, so that the client's dependencies stay out of the product's graph. The tests build the
// program from the parent module, run `radixbus up` as a process and talk to it as any user would, over loopback only.
package sdk_test

import (
	"fmt"
	"io"
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

// up starts `radixbus up` on free ports and returns its URL once it is ready.
func up(t *testing.T, args ...string) string {
	t.Helper()
	p := run(t, append([]string{"up", "--port", "0", "--admin-port", "0"}, args...)...)
	awaitReady(t, p.url)
	return p.url
}

func awaitReady(t *testing.T, url string) {
	t.Helper()
	if err := ready(url); err != nil {
		t.Fatal(err)
	}
}

// ready waits until a hub is ready.
func ready(url string) error {
	last := "no answer"
	for end := time.Now().Add(startBound); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			last = err.Error()
			continue
		}
		doc, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = string(doc)
	}
	return fmt.Errorf("%s is not ready in %v: %s", url, startBound, last)
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

// answerTokens bounds the answers of simulated workers, which always use it up.
const answerTokens = 24
