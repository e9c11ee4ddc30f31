package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	chacha "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	altda "github.com/ethereum-optimism/optimism/op-alt-da"
)

// What whoever runs the tests says in the environment.
const (
	// Address of the DA server: http://HOST:PORT.
	serverVariable = "MERIDIAN_ALTDA"
	// Folder with real batches.
	batchesVariable = "MERIDIAN_BATCHES"
	// File in which one test notes what it put, for another to read.
	ledgerVariable = "MERIDIAN_LEDGER"
	// Seconds for tests that go on while something happens.
	secondsVariable = "MERIDIAN_SECONDS"
)

func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

// modes gives a client of each commitment mode, made as op-batcher and op-node make it.
func modes(t *testing.T) map[string]*altda.DAClient {
	server := variable(t, serverVariable)
	return map[string]*altda.DAClient{
		"keccak":  altda.NewDAClient(server, true, true),
		"generic": altda.NewDAClient(server, false, false),
	}
}

func forEachMode(t *testing.T, test func(t *testing.T, client *altda.DAClient)) {
	for name, client := range modes(t) {
		t.Run(name, func(t *testing.T) { test(t, client) })
	}
}

func noise(t testing.TB, length int) []byte {
	t.Helper()
	input := make([]byte, length)
	if _, err := rand.Read(input); err != nil {
		t.Fatal(err)
	}
	return input
}

func batches(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(variable(t, batchesVariable), "*.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no batches: %v", err)
	}
	inputs := make(map[string][]byte)
	for _, file := range files {
		input, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inputs[filepath.Base(file)] = input
	}
	return inputs
}

func put(t *testing.T, client *altda.DAClient, input []byte) altda.CommitmentData {
	t.Helper()
	commitment, err := client.SetInput(context.Background(), input)
	if err != nil {
		t.Fatalf("put of %d bytes: %v", len(input), err)
	}
	return commitment
}

func mustGet(t *testing.T, client *altda.DAClient, commitment altda.CommitmentData, input []byte) {
	t.Helper()
	got, err := client.GetInput(context.Background(), commitment)
	if err != nil {
		t.Fatalf("get of %s: %v", commitment, err)
	}
	if !bytes.Equal(got, input) {
		t.Fatalf("%s: %d wrong bytes", commitment, len(got))
	}
}

func TestEveryRealBatchComesBack(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		for name, input := range batches(t) {
			commitment := put(t, client, input)
			mustGet(t, client, commitment, input)
			encoded := commitment.Encode()
			switch commitment.CommitmentType() {
			case altda.Keccak256CommitmentType:
				if !bytes.Equal(encoded, altda.NewKeccak256Commitment(input).Encode()) {
					t.Errorf("%s: another keccak commitment: %x", name, encoded)
				}
			case altda.GenericCommitmentType:
				if len(encoded) != 34 || encoded[0] != 0x01 || encoded[1] != 0xff {
					t.Errorf("%s: a generic commitment of another form: %x", name, encoded)
				}
			}
		}
	})
}

func TestRepeatedPutsHaveOneCommitment(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		input := noise(t, 5_000)
		first := put(t, client, input)
		for range 3 {
			if again := put(t, client, input); !bytes.Equal(again.Encode(), first.Encode()) {
				t.Fatalf("%s, then %s", first, again)
			}
		}
	})
}

func TestThirtyTwoAtATime(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for range 4 {
					input := noise(t, 60_000)
					commitment, err := client.SetInput(context.Background(), input)
					if err != nil {
						t.Errorf("put: %v", err)
						return
					}
					got, err := client.GetInput(context.Background(), commitment)
					if err != nil || !bytes.Equal(got, input) {
						t.Errorf("get: %v", err)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestWhatNobodyPutIsNotFound(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		var unknown altda.CommitmentData = altda.NewKeccak256Commitment(noise(t, 100))
		if t.Name() == "TestWhatNobodyPutIsNotFound/generic" {
			unknown = altda.NewGenericCommitment(append([]byte{0xff}, noise(t, 32)...))
		}
		if _, err := client.GetInput(context.Background(), unknown); !errors.Is(err, altda.ErrNotFound) {
			t.Fatalf("an answer, or another error: %v", err)
		}
	})
}

func TestEmptyAndOversizeInputsAreRefused(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		if _, err := client.SetInput(context.Background(), nil); !errors.Is(err, altda.ErrInvalidInput) {
			t.Fatalf("empty: %v", err)
		}
	})
	server := variable(t, serverVariable)
	status := func(path string, body []byte) int {
		response, err := http.Post(server+path, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	if got := status("/put", nil); got != http.StatusBadRequest {
		t.Errorf("empty: %d", got)
	}
	for length, want := range map[int]int{
		altda.MaxInputSize:     http.StatusOK,
		altda.MaxInputSize + 1: http.StatusRequestEntityTooLarge,
		4 << 20:                http.StatusRequestEntityTooLarge,
	} {
		input := noise(t, length)
		path := fmt.Sprintf("/put/0x%x", altda.NewKeccak256Commitment(input).Encode())
		if got := status(path, input); got != want {
			t.Errorf("%d bytes: %d", length, got)
		}
	}
	other := fmt.Sprintf("/put/0x%x", altda.NewKeccak256Commitment([]byte("other")).Encode())
	if got := status(other, []byte("input")); got != http.StatusBadRequest {
		t.Errorf("a body of another commitment: %d", got)
	}
}

// The ledger: what was put, a line for each, the commitment and the input in hex.
func note(t *testing.T, commitment altda.CommitmentData, input []byte) {
	t.Helper()
	file, err := os.OpenFile(variable(t, ledgerVariable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintf(file, "%x %x\n", commitment.Encode(), input); err != nil {
		t.Fatal(err)
	}
}

func ledger(t *testing.T, check func(commitment altda.CommitmentData, input []byte)) {
	t.Helper()
	text, err := os.ReadFile(variable(t, ledgerVariable))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	if len(lines) == 0 {
		t.Fatal("nothing was put")
	}
	for place := 0; place+1 < len(lines); place += 2 {
		encoded, err := hex.DecodeString(lines[place])
		if err != nil {
			t.Fatal(err)
		}
		input, err := hex.DecodeString(lines[place+1])
		if err != nil {
			t.Fatal(err)
		}
		commitment, err := altda.DecodeCommitmentData(encoded)
		if err != nil {
			t.Fatal(err)
		}
		check(commitment, input)
	}
}

func clientOf(t *testing.T, commitment altda.CommitmentData) *altda.DAClient {
	if commitment.CommitmentType() == altda.Keccak256CommitmentType {
		return modes(t)["keccak"]
	}
	return modes(t)["generic"]
}

// TestPutAndNote leaves inputs behind for the tests below.
func TestPutAndNote(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		for _, length := range []int{1, 1_000, 130_044} {
			input := noise(t, length)
			note(t, put(t, client, input), input)
		}
	})
}

// TestNotedComeBack reads what was put before, all of it.
func TestNotedComeBack(t *testing.T) {
	ledger(t, func(commitment altda.CommitmentData, input []byte) {
		mustGet(t, clientOf(t, commitment), commitment, input)
	})
}

// TestNotedAreNeverWrongOrGone reads what was put before, where some of it may be out of reach.
func TestNotedAreNeverWrongOrGone(t *testing.T) {
	ledger(t, func(commitment altda.CommitmentData, input []byte) {
		got, err := clientOf(t, commitment).GetInput(context.Background(), commitment)
		if errors.Is(err, altda.ErrNotFound) || errors.Is(err, altda.ErrCommitmentMismatch) {
			t.Errorf("%s: %v", commitment, err)
		}
		if err == nil && !bytes.Equal(got, input) {
			t.Errorf("%s: wrong bytes", commitment)
		}
	})
}

// TestPutsFailForNow puts where there is no quorum.
func TestPutsFailForNow(t *testing.T) {
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		commitment, err := client.SetInput(context.Background(), noise(t, 1_000))
		if err == nil {
			t.Fatalf("certified without a quorum: %s", commitment)
		}
		// No client of generic commitments is told to leave unless the operator says so.
		status := "503"
		if t.Name() == "TestPutsFailForNow/generic" {
			status = "429"
		}
		if !strings.HasSuffix(err.Error(), status) {
			t.Fatalf("not %s: %v", status, err)
		}
	})
}

// TestPutsAndReadsGoOn puts and reads for a while, as a batcher does that tries again: what was put once is never wrong or
// gone, and all of it comes back in the end.
func TestPutsAndReadsGoOn(t *testing.T) {
	seconds, err := strconv.Atoi(variable(t, secondsVariable))
	if err != nil {
		t.Fatal(err)
	}
	forEachMode(t, func(t *testing.T, client *altda.DAClient) {
		t.Parallel()
		length := time.Duration(seconds) * time.Second
		end := time.Now().Add(length)
		type noted struct {
			commitment altda.CommitmentData
			seed       [32]byte
		}
		// Made again instead of kept: a long run puts gigabytes.
		inputOf := func(seed [32]byte) []byte {
			input := make([]byte, 20_000)
			_, _ = chacha.NewChaCha8(seed).Read(input)
			return input
		}
		var all []noted
		failures := 0
		check := func(noted noted) {
			got, err := client.GetInput(context.Background(), noted.commitment)
			if errors.Is(err, altda.ErrNotFound) || errors.Is(err, altda.ErrCommitmentMismatch) {
				t.Fatalf("%s: %v", noted.commitment, err)
			}
			if err != nil {
				failures++
			} else if !bytes.Equal(got, inputOf(noted.seed)) {
				t.Fatalf("%s: wrong bytes", noted.commitment)
			}
		}
		for time.Now().Before(end) {
			seed := [32]byte(noise(t, 32))
			commitment, err := client.SetInput(context.Background(), inputOf(seed))
			for err != nil {
				failures++
				if time.Now().After(end.Add(time.Minute)) {
					t.Fatalf("puts fail for good: %v", err)
				}
				time.Sleep(100 * time.Millisecond)
				commitment, err = client.SetInput(context.Background(), inputOf(seed))
			}
			all = append(all, noted{commitment, seed})
			check(all[len(all)-1])
			check(all[chacha.IntN(len(all))])
			time.Sleep(length / 9_000)
		}
		for _, noted := range all {
			mustGet(t, client, noted.commitment, inputOf(noted.seed))
		}
		t.Logf("%d inputs, %d failures on the way", len(all), failures)
	})
}
