package sdk_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A target is what a suite is told of what it runs against, as JSON.
type target struct {
	URL       string            `json:"url"`
	Model     string            `json:"model"`     // generates; what it says at temperature 0 can be repeated
	Embedder  string            `json:"embedder"`  // another one, which embeds and ranks
	Adapter   string            `json:"adapter"`   // a LoRA adapter of the model
	Scripted  string            `json:"scripted"`  // a model whose streams say "half of " and break off, on every route that streams
	BodyLimit int               `json:"bodyLimit"` // bytes of one body; half as many more fit into the gateway at a time
	Forever   int               `json:"forever"`   // tokens that take longer than any check and that the engine would give
	Lacks     map[string]string `json:"lacks"`     // needs of checks that the engine cannot meet, and why
	Stage     string            `json:"stage"`     // where a suite has things done: see stage
}

// bodyLimit is small, so that a check can exceed it.
const bodyLimit = 1 << 20

// hub is a gateway in front of engines and of one that breaks off.
func hub(t *testing.T, engines ...string) string {
	t.Helper()
	return up(t, append(engines, breaking(t).url), "--max-payload-size", fmt.Sprint(bodyLimit), "--max-inflight-bytes", fmt.Sprint(bodyLimit*3/2))
}

// simulated is a hub in front of simulated engines: two that generate, and one that embeds.
func simulated(t *testing.T) *target {
	chat := []string{"sim", "--port", "0", "--model", "org/chat", "--speed", "20", "--response-store", "--audio", "--lora", "red=/lora/red"}
	embeds := run(t, "sim", "--port", "0", "--model", "org/embed", "--speed", "20", "--embedding")
	return &target{
		URL: hub(t, run(t, chat...).url, run(t, chat...).url, embeds.url), Model: "org/chat", Embedder: "org/embed", Adapter: "red",
		Scripted: scriptedModel, BodyLimit: bodyLimit, Forever: 50_000, // 17 s at this speed
		Lacks: map[string]string{}, Stage: newStage(t).url,
	}
}

// sglang is a hub in front of two real engines, one that generates and one that embeds. The model is noise: what it says
// means nothing, but with room for one form only it fills the form in, as any model does.
func sglang(t *testing.T) *target {
	home := os.Getenv("RADIXBUS_SGLANG_HOME")
	if testing.Short() {
		t.Skip("-short: starts no real engines")
	}
	if home == "" {
		t.Skip("no real engines: $RADIXBUS_SGLANG_HOME names no folder with SGLang")
	}
	if _, err := os.Stat(filepath.Join(home, "weights.done")); err != nil {
		t.Skipf("no real engines: `python3 internal/e2e/sglang/rig/rig.py install` puts SGLang into %s (6 GB)", home)
	}
	chats := beginSGLang(t, home,
		"--enable-response-store", "--enable-lora", "--lora-paths", "red="+filepath.Join(home, "lora", "red"), "--max-lora-rank", "8",
		"--lora-target-modules", "q_proj", "v_proj", "--max-loras-per-batch", "2", "--lora-backend", "torch_native",
		"--tool-call-parser", "pythonic", // of those that leave calls which are asked for to a JSON schema
		"--constrained-json-disable-any-whitespace", // which noise prefers to the end of a document
	)
	embeds := beginSGLang(t, home, "--served-model-name", "tiny-embed", "--is-embedding", "--json-model-override-args", `{"is_matryoshka": true}`)
	return &target{
		URL: hub(t, chats(), embeds()), Model: "tiny", Embedder: "tiny-embed", Adapter: "red",
		Scripted: scriptedModel, BodyLimit: bodyLimit, Forever: 7000, // of 8192 that there is room for
		Lacks: map[string]string{
			"audio": "the model that real engines have here does not hear",
			"seed":  "SGLang heeds seeds with --enable-deterministic-inference only, which it does not have on a CPU",
		},
		Stage: newStage(t).url,
	}
}

// engineBound is for the start of a real engine, which costs half a minute of CPU.
const engineBound = 5 * time.Minute

// beginSGLang starts a real engine, and returns what waits until it serves and is its URL. It ends with the test, however that ends.
func beginSGLang(t *testing.T, home string, flags ...string) (url func() string) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	rig := filepath.Join("..", "sglang", "rig", "rig.py")
	c := exec.Command("nice", "-n", "5", filepath.Join(home, "venv", "bin", "python"), rig, "serve", "--tied", "--port", fmt.Sprint(port))
	c.Args = append(c.Args, flags...)
	c.Stdout, c.Stderr = log, log
	tie, err := c.StdinPipe() // once it is closed, by us or by our end, all processes of the engine end
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		c.Wait() //nolint:errcheck // killed by what it is tied to
		close(gone)
	}()
	t.Cleanup(func() {
		tie.Close()
		<-gone
	})
	address := fmt.Sprint("http://127.0.0.1:", port)
	return func() string {
		began := time.Now()
		if err := serves(address, gone); err != nil {
			said, _ := os.ReadFile(log.Name()) // there or not, the error is told
			t.Fatalf("SGLang %s: %v\n%s", strings.Join(flags, " "), err, said[max(0, len(said)-4000):])
		}
		t.Logf("waited %.0f s for SGLang", time.Since(began).Seconds())
		return address
	}
}

// serves waits until an engine does.
func serves(url string, gone <-chan struct{}) error {
	for end := time.Now().Add(engineBound); time.Now().Before(end); {
		if resp, err := http.Get(url + "/health"); err == nil {
			io.Copy(io.Discard, resp.Body) //nolint:errcheck // its status is what counts
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-gone:
			return errors.New("it has ended")
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("it does not serve in %v", engineBound)
}
