package exitcoord

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"
)

// This file holds the exit report for programs. Its form is stable: fields are added at most, every field is always
// there, and ReportVersion grows if the meaning of one ever changes.
//
// Durations are whole nanoseconds, in fields that end in _ns, never negative. Times are RFC 3339 in UTC with up to nine
// digits of fraction. Lists may be empty, never null. Text that is no valid UTF-8 has U+FFFD in its place.
//
//	version          1
//	cage             id of the cage
//	phase            "running", "stopping", "quiescent", "cleaning", "zombie" or "reaped"
//	cause            null as long as there is none, else:
//	  kind             "exit_group", "main_returned", "last_thread", "trap", "signal", "host_kill", "time_limit",
//	                   "runtime_close", "grate_failure", "start_failed" or "host_failure"
//	  text             the cause in words
//	  at               when it happened
//	  code             the exit code it brought, 0 if none
//	  signal           number of the signal it brought, 0 if none
//	  tid              the thread that caused it, 0 if it came from outside
//	  message          what else there is to say, or ""
//	  backtrace        list of frames of the guest, innermost first
//	  limit_ns         the limit that passed, 0 if none
//	status           null as long as cause is null, else:
//	  code             exit code, whole; 0 if signal is not
//	  signal           number of the signal that ended the cage, 0 if it exited
//	  signal_name      "SIGKILL", or "" if it exited
//	  exit_code        as a shell shows it
//	  wait_status      as wait4 stores it on Linux
//	lost_causes      causes that came too late to matter
//	stopping_ns      how long phase 1 took, so far
//	cleaning_ns      how long the steps took, so far
//	total_ns         from the begin of the stop until zombie, so far
//	stop_error       what went wrong as the stop began, or ""
//	stuck            null, or of a stop that missed its deadline:
//	  since            when it was found to have
//	  after_ns         from the begin of the stop until then
//	  over             whether it ended after all
//	  lasted_ns        from since until it ended; 0 unless over
//	  threads          those inside at since, as below
//	threads          those inside when the stop began:
//	  tid              id of the thread
//	  at               "guest", "host call NAME", "atomic wait at ADDRESS" or "starting"
//	  function         innermost function of the guest, or ""
//	  since_ns         how long it had been there
//	  left_ns          from the begin of the stop until it was out of the cage; 0 if it is still inside
//	  outcome          how it ended, or ""
//	steps            every step of phase 2, in order:
//	  index            0 for the first
//	  name             its name
//	  outcome          "waiting", "running", "ok", "failed", "panicked" or "timed_out"
//	  took_ns          how long it ran; for timed_out until the exit went on
//	  deadline_ns      how long it may run, 0 if it is trusted to return
//	  error            what went wrong, or ""
//	  stack            where it panicked, or ""
//	late_steps       what steps that timed out came to, in the order of their return; as in steps
//	observer_panics  events that the observer panicked on

// ReportVersion is the number in the field version of the JSON report.
const ReportVersion = 1

type jsonReport struct {
	Version        int          `json:"version"`
	Cage           uint64       `json:"cage"`
	Phase          string       `json:"phase"`
	Cause          *jsonCause   `json:"cause"`
	Status         *jsonStatus  `json:"status"`
	LostCauses     int          `json:"lost_causes"`
	StoppingNS     int64        `json:"stopping_ns"`
	CleaningNS     int64        `json:"cleaning_ns"`
	TotalNS        int64        `json:"total_ns"`
	StopError      string       `json:"stop_error"`
	Stuck          *jsonStuck   `json:"stuck"`
	Threads        []jsonThread `json:"threads"`
	Steps          []jsonStep   `json:"steps"`
	LateSteps      []jsonStep   `json:"late_steps"`
	ObserverPanics int          `json:"observer_panics"`
}

type jsonCause struct {
	Kind      string    `json:"kind"`
	Text      string    `json:"text"`
	At        time.Time `json:"at"`
	Code      int32     `json:"code"`
	Signal    int32     `json:"signal"`
	TID       int32     `json:"tid"`
	Message   string    `json:"message"`
	Backtrace []string  `json:"backtrace"`
	LimitNS   int64     `json:"limit_ns"`
}

type jsonStatus struct {
	Code       int32  `json:"code"`
	Signal     int32  `json:"signal"`
	SignalName string `json:"signal_name"`
	ExitCode   int    `json:"exit_code"`
	WaitStatus uint32 `json:"wait_status"`
}

type jsonStuck struct {
	Since    time.Time    `json:"since"`
	AfterNS  int64        `json:"after_ns"`
	Over     bool         `json:"over"`
	LastedNS int64        `json:"lasted_ns"`
	Threads  []jsonThread `json:"threads"`
}

type jsonThread struct {
	TID      int32  `json:"tid"`
	At       string `json:"at"`
	Function string `json:"function"`
	SinceNS  int64  `json:"since_ns"`
	LeftNS   int64  `json:"left_ns"`
	Outcome  string `json:"outcome"`
}

type jsonStep struct {
	Index      int    `json:"index"`
	Name       string `json:"name"`
	Outcome    string `json:"outcome"`
	TookNS     int64  `json:"took_ns"`
	DeadlineNS int64  `json:"deadline_ns"`
	Error      string `json:"error"`
	Stack      string `json:"stack"`
}

// WriteJSON writes the report as indented JSON and a line feed, with the characters <, > and & as they are.
func (r Report) WriteJSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r.wire()); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// MarshalJSON is the report as JSON, for a program that puts it into something larger.
func (r Report) MarshalJSON() ([]byte, error) { return json.Marshal(r.wire()) }

func (r Report) wire() jsonReport {
	j := jsonReport{
		Version: ReportVersion, Cage: uint64(r.Cage), Phase: r.Phase.String(), LostCauses: r.Lost,
		StoppingNS: ns(r.Stopping), CleaningNS: ns(r.Cleaning), TotalNS: ns(r.Total), StopError: errorText(r.StopErr),
		Threads: wireThreads(r.Threads), Steps: wireSteps(r.Steps), LateSteps: wireSteps(r.Late),
		ObserverPanics: r.ObserverPanics,
	}
	if c := r.Cause; c != nil {
		j.Cause = &jsonCause{
			Kind: c.Kind.String(), Text: c.String(), At: wireTime(c.At), Code: c.Code, Signal: c.Signal, TID: c.TID,
			Message: c.Message, Backtrace: lines(c.Backtrace), LimitNS: ns(c.Limit),
		}
		s := r.Status
		j.Status = &jsonStatus{Code: s.Code, Signal: s.Signal, ExitCode: s.ExitCode(), WaitStatus: s.WaitStatus()}
		if s.Signal != 0 {
			j.Status.SignalName = SignalName(s.Signal)
		}
	}
	if s := r.Stuck; s != nil {
		j.Stuck = &jsonStuck{
			Since: wireTime(s.Since), AfterNS: ns(s.After), Over: s.Over, LastedNS: ns(s.Lasted),
			Threads: wireThreads(s.Threads),
		}
	}
	return j
}

func wireThreads(threads []ThreadState) []jsonThread {
	out := make([]jsonThread, 0, len(threads))
	for _, t := range threads {
		out = append(out, jsonThread{
			TID: t.TID, At: t.At, Function: t.Function, SinceNS: ns(t.Since), LeftNS: ns(t.Left), Outcome: t.Outcome,
		})
	}
	return out
}

func wireSteps(steps []StepResult) []jsonStep {
	out := make([]jsonStep, 0, len(steps))
	for _, s := range steps {
		out = append(out, jsonStep{
			Index: s.Index, Name: s.Name, Outcome: strings.ReplaceAll(s.Outcome.String(), " ", "_"), TookNS: ns(s.Took),
			DeadlineNS: ns(s.Deadline), Error: errorText(s.Err), Stack: s.Stack,
		})
	}
	return out
}

// wireTime is t without its zone, and within the years that RFC 3339 and encoding/json know: a time that no clock shows
// must not cost the report.
func wireTime(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// ns is d, or 0 if a coarse clock made it negative.
func ns(d time.Duration) int64 { return max(int64(d), 0) }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// lines are the lines of s without their ends; none if s is empty.
func lines(s string) []string {
	s = strings.TrimRight(s, "\r\n")
	if s == "" {
		return []string{}
	}
	return strings.Split(s, "\n")
}
