package bridge

import (
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestSlab_FindsWhatLivesAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s slab[int]
		live := make(map[uint64]int)
		var tokens, dead []uint64
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				v := rapid.Int().Draw(t, "value")
				token := s.put(v)
				if token == 0 {
					t.Fatal("token 0")
				}
				if _, ok := live[token]; ok {
					t.Fatalf("token %#x was given twice", token)
				}
				live[token] = v
				tokens = append(tokens, token)
			},
			"drop": func(t *rapid.T) {
				if len(tokens) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(tokens)-1).Draw(t, "which")
				if !s.drop(tokens[i]) {
					t.Fatalf("token %#x was not there", tokens[i])
				}
				delete(live, tokens[i])
				dead = append(dead, tokens[i])
				tokens = append(tokens[:i], tokens[i+1:]...)
			},
			"forge": func(t *rapid.T) {
				token := rapid.Uint64().Draw(t, "token")
				if _, ok := live[token]; !ok && (s.at(token) != nil || s.drop(token)) {
					t.Fatalf("token %#x finds something", token)
				}
			},
			"": func(t *rapid.T) {
				if s.live() != len(live) {
					t.Fatalf("%d live, want %d", s.live(), len(live))
				}
				for token, v := range live {
					if e := s.at(token); e == nil || e.value != v {
						t.Fatalf("token %#x finds %v, want %d", token, e, v)
					}
				}
				for _, token := range dead {
					if s.at(token) != nil || s.drop(token) {
						t.Fatalf("token %#x is found after it was dropped", token)
					}
				}
			},
		})
	})
}

func TestSlab_SkipsTokenZeroWhenGenerationsBeginAgain(t *testing.T) {
	var s slab[int]
	token := s.put(1)
	s.drop(token)
	s.chunks[0].Load().generations[0] = ^uint32(0)
	if token = s.put(2); token == 0 {
		t.Fatal("token 0")
	}
	if e := s.at(token); e == nil || e.value != 2 {
		t.Fatalf("token %#x finds %v", token, e)
	}
}

func TestSlab_SaysWhenItIsFull(t *testing.T) {
	var s slab[int]
	s.next = slabLen
	if token := s.put(1); token != 0 {
		t.Fatalf("token %#x of a full slab", token)
	}
	s.next--
	token := s.put(1)
	if s.at(token) == nil {
		t.Fatal("the last slot is of no use")
	}
	s.drop(token)
	if s.at(s.put(2)) == nil {
		t.Fatal("a slot that became free is of no use")
	}
}

func TestSlab_Hammer(t *testing.T) {
	const workers, rounds = 8, 5_000
	var s slab[*int]
	shared := make(chan uint64, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			own := w
			for range rounds {
				token := s.put(&own)
				if e := s.at(token); e == nil || e.value != &own {
					t.Errorf("worker %d: token %#x finds another's", w, token)
				}
				select { // others look a token up that may be dropped at any moment
				case shared <- token:
				case other := <-shared:
					if e := s.at(other); e != nil && e.token != other {
						t.Errorf("token %#x finds the entry of %#x", other, e.token)
					}
				}
				if !s.drop(token) {
					t.Errorf("worker %d: token %#x was not there", w, token)
				}
				if s.at(token) != nil {
					t.Errorf("worker %d: token %#x is found after it was dropped", w, token)
				}
			}
		})
	}
	wg.Wait()
	if n := s.live(); n != 0 {
		t.Errorf("%d live at the end", n)
	}
}
