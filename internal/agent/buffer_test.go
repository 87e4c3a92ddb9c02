package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func numberedLine(i int) []byte {
	return fmt.Appendf(nil, `{"line":%d,"x":%q}`, i, strings.Repeat("x", i%700))
}

// isWriter marks the child process of TestBuffer_kill.
const isWriter = "MUSTER_TEST_BUFFER_WRITER"

// TestBuffer_writer is that child: it buffers lines in its working directory
// until it is killed, acknowledges some, and tells on standard output what is
// certain.
func TestBuffer_writer(t *testing.T) {
	if os.Getenv(isWriter) == "" {
		t.Skip("it is run by TestBuffer_kill")
	}
	b, err := OpenBuffer(".")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i += 3 {
		if err := b.Append(numberedLine(i), numberedLine(i+1), numberedLine(i+2)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stdout, "buffered %d\n", i+3)
		if i%30 != 0 {
			continue
		}
		batch, err := b.Peek(7)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stdout, "acking %d\n", len(batch.Lines))
		if err := b.Ack(batch); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBuffer_kill ends a writer with SIGKILL: what it reported as buffered and
// did not acknowledge is there, whole and in order.
func TestBuffer_kill(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestBuffer_writer$")
	cmd.Env = append(os.Environ(), isWriter+"=1")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buffered, acked := 0, 0
	scanner := bufio.NewScanner(out)
	const enough = 30000 // over two segments
	for scanner.Scan() {
		word, n, _ := strings.Cut(scanner.Text(), " ")
		count, err := strconv.Atoi(n)
		if err != nil {
			continue // cut short by the kill
		}
		switch word {
		case "buffered":
			buffered = count
		case "acking":
			acked += count // perhaps not done
		}
		if buffered == enough {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	if buffered < enough {
		t.Fatalf("only %d lines", buffered)
	}
	b, err := OpenBuffer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if missing := buffered - acked - b.Len(); missing > 0 {
		t.Errorf("%d lines are lost", missing)
	}
	total := b.Len()
	next := -1
	for b.Len() > 0 {
		batch, err := b.Peek(1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range batch.Lines {
			var n int
			if _, err := fmt.Sscanf(string(line), `{"line":%d`, &n); err != nil {
				t.Fatal(err)
			}
			if next < 0 {
				next = n
				if n > acked {
					t.Errorf("the first line is %d, but at most %d were acknowledged", n, acked)
				}
			}
			if n != next || !bytes.Equal(line, numberedLine(n)) {
				t.Fatalf("line %d where %d should be", n, next)
			}
			next++
		}
		if err := b.Ack(batch); err != nil {
			t.Fatal(err)
		}
	}
	if next < buffered {
		t.Errorf("the last line is %d, but %d were buffered", next-1, buffered)
	}
	t.Logf("%d buffered, %d acknowledged, %d found", buffered, acked, total)
}

// TestBuffer_torn opens buffers whose last write was cut at every byte.
func TestBuffer_torn(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBuffer(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Append([]byte("one"), []byte("two"), []byte("three")); err != nil {
		t.Fatal(err)
	}
	path := b.path(0)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	twoEnds := len(whole) - recordHead - len("three")
	for cut := twoEnds; cut < len(whole); cut++ {
		torn := bytes.Clone(whole[:cut])
		if cut%2 == 0 { // or blocks of zeros, as a file system leaves after a power cut
			torn = append(torn, make([]byte, 64)...)
		}
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBuffer(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append([]byte("four")); err != nil {
			t.Fatal(err)
		}
		batch, err := b.Peek(10)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Join(batch.Lines, []byte(" "))
		if got := strings.ReplaceAll(string(lines), "  ", ""); got != "one two four" {
			t.Fatalf("cut at %d: got %q", cut, lines)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "head"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = OpenBuffer(dir); err != nil || b.Len() == 0 {
		t.Errorf("a damaged head loses lines: %v", err)
	}
}
