// Package sdk_test asks the official OpenAI client whether radixbus is what it says: an OpenAI endpoint.
//
// It is a module of its own, so that the client's dependencies stay out of the product's graph. The tests build the
// program from the parent module, run `radixbus up` as a process and talk to it as any user would, over loopback only.
package sdk_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const (
	startBound = 30 * time.Second // for a hub to be ready, on a busy machine
	stopBound  = 20 * time.Second // for a hub to drain
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

// build is the program under test, made once.
var build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	build.once.Do(func() {
		build.path = filepath.Join(build.dir, "radixbus")
		c := exec.Command("go", "build", "-buildvcs=false", "-o", build.path, ".")
		c.Dir = filepath.Join("..", "..", "..")
		if out, err := c.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Skipf("the parent module does not build, so there is nothing to test: %v", build.err)
	}
	return build.path
}

// up starts `radixbus up` on free ports and returns its URL once it is ready. When the test ends it is asked to stop,
// and must exit cleanly.
func up(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command(program(t), append([]string{"up", "--port", "0", "--admin-port", "0"}, args...)...)
	c.Dir = t.TempDir() // no configuration file of anybody's
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c.Stdout, c.Stderr = stdoutEnd, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stdoutEnd.Close()
	lines := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer stdout.Close()
		r := bufio.NewReader(stdout)
		line, _ := r.ReadString('\n') // cut short: no URL, which is told below
		lines <- strings.TrimSpace(line)
		io.Copy(io.Discard, r) //nolint:errcheck // only so that the process can write
	})
	t.Cleanup(func() {
		stop(t, c)
		reader.Wait()
		if t.Failed() {
			t.Logf("radixbus %s said:\n%s", strings.Join(c.Args[1:], " "), log.String())
		}
	})
	select {
	case url := <-lines:
		if !strings.HasPrefix(url, "http://127.0.0.1:") {
			t.Fatalf("first line of standard output is %q, want the URL", url)
		}
		awaitReady(t, url)
		return url
	case <-time.After(startBound):
		t.Fatalf("no URL on standard output in %v", startBound)
	}
	return ""
}

func stop(t *testing.T, c *exec.Cmd) {
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	c.Process.Signal(syscall.SIGTERM) //nolint:errcheck // one that is gone already is told by its exit code
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("radixbus up ended with %v, want a clean exit after SIGTERM", err)
		}
	case <-time.After(stopBound):
		c.Process.Kill() //nolint:errcheck // gone in the meantime
		<-done           //nolint:errcheck // killed
		t.Errorf("radixbus up did not end in %v after SIGTERM", stopBound)
	}
}

func awaitReady(t *testing.T, url string) {
	t.Helper()
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
			return
		}
		last = string(doc)
	}
	t.Fatalf("not ready in %v: %s", startBound, last)
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
