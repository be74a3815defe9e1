package drive

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Reply answers a request.
type Reply struct {
	// Ns are the samples, in nanoseconds for each operation.
	Ns []float64 `json:"ns,omitempty"`
	// Parts are what the samples consist of, by name.
	Parts map[string][]float64 `json:"parts,omitempty"`
	// Values are anything else.
	Values map[string]float64 `json:"values,omitempty"`
	// Cannot says why a contestant does not do what was asked.
	Cannot string `json:"cannot,omitempty"`
	// Error says what went wrong.
	Error string `json:"error,omitempty"`
	// Armed announces an attempt: another Reply follows.
	Armed bool `json:"armed,omitempty"`
	// Text is what a contestant says of itself.
	Text string `json:"text,omitempty"`
}

// Request is what a contestant is asked.
type Request struct {
	// Op is the first word, Args those between it and the number.
	Op   string
	Args []string
	// N is how many samples are wanted.
	N int
	// Arm announces an attempt.
	Arm func() error
}

// Arg is argument i, or "".
func (r *Request) Arg(i int) string {
	if i < len(r.Args) {
		return r.Args[i]
	}
	return ""
}

// Int is argument i as a number.
func (r *Request) Int(i int) (int, error) {
	n, err := strconv.Atoi(r.Arg(i))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: argument %d is %q, want a number", r.Op, i, r.Arg(i))
	}
	return n, nil
}

// Serve answers the requests that come from in, until it ends.
func Serve(in io.Reader, out io.Writer, do func(*Request) (Reply, error)) error {
	answer := func(r Reply) error {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = out.Write(append(line, '\n'))
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			return fmt.Errorf("request %q: want an operation and a number", lines.Text())
		}
		n, err := strconv.Atoi(words[len(words)-1])
		if err != nil || n < 0 {
			return fmt.Errorf("request %q: want a number at the end", lines.Text())
		}
		req := &Request{Op: words[0], Args: words[1 : len(words)-1], N: n}
		req.Arm = func() error { return answer(Reply{Armed: true}) }
		reply, err := do(req)
		if err != nil {
			reply = Reply{Error: err.Error()}
		}
		if err := answer(reply); err != nil {
			return err
		}
	}
	return lines.Err()
}
