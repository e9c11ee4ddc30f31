package peer

import (
	"bytes"
	"context"
	"errors"
	"testing"

	altda "github.com/ethereum-optimism/optimism/op-alt-da"
	optypes "github.com/ethereum-optimism/optimism/op-core/types"
	"github.com/ethereum-optimism/optimism/op-service/eth"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/log"
)

const (
	challengeWindow = 8
	resolveWindow   = 4
)

// quiet is an L1 on which nobody challenges anything.
type quiet struct{}

func (quiet) InfoAndTxsByHash(context.Context, common.Hash) (eth.BlockInfo, types.Transactions, error) {
	return nil, nil, nil
}

func (quiet) FetchReceipts(context.Context, common.Hash) (eth.BlockInfo, optypes.Receipts, error) {
	return nil, nil, nil
}

func (quiet) L1BlockRefByNumber(_ context.Context, number uint64) (eth.L1BlockRef, error) {
	return block(number), nil
}

func block(number uint64) eth.L1BlockRef {
	return eth.L1BlockRef{Number: number, Hash: common.BigToHash(common.Big1)}
}

func manager(t *testing.T, kind altda.CommitmentType) *altda.DA {
	config := altda.Config{
		CommitmentType:             kind,
		ChallengeWindow:            challengeWindow,
		ResolveWindow:              resolveWindow,
		DAChallengeContractAddress: common.HexToAddress("0x01"),
	}
	client := altda.CLIConfig{
		Enabled:      true,
		DAServerURL:  variable(t, serverVariable),
		VerifyOnRead: true,
		GenericDA:    kind == altda.GenericCommitmentType,
	}
	if err := client.Check(); err != nil {
		t.Fatal(err)
	}
	return altda.NewAltDA(log.New(), client, config, &altda.NoopMetrics{})
}

func kinds(t *testing.T, test func(t *testing.T, kind altda.CommitmentType, client *altda.DAClient)) {
	clients := modes(t)
	t.Run("keccak", func(t *testing.T) { test(t, altda.Keccak256CommitmentType, clients["keccak"]) })
	t.Run("generic", func(t *testing.T) { test(t, altda.GenericCommitmentType, clients["generic"]) })
}

// TestTheManagerDerives runs the node's manager over blocks with inputs, up to their finalization.
func TestTheManagerDerives(t *testing.T) {
	kinds(t, func(t *testing.T, kind altda.CommitmentType, client *altda.DAClient) {
		ctx, manager := context.Background(), manager(t, kind)
		var finalized uint64
		manager.OnFinalizedHeadSignal(func(head eth.L1BlockRef) { finalized = head.Number })
		for number := uint64(1); number <= 30; number++ {
			if number <= 5 {
				input := noise(t, 10_000)
				commitment := put(t, client, input)
				got, err := manager.GetInput(ctx, quiet{}, commitment, block(number))
				if err != nil || !bytes.Equal(got, input) {
					t.Fatalf("block %d: %v", number, err)
				}
			}
			if err := manager.AdvanceL1Origin(ctx, quiet{}, block(number).ID()); err != nil {
				t.Fatalf("block %d: %v", number, err)
			}
			manager.Finalize(block(number))
		}
		if finalized < 5 {
			t.Fatalf("finalized only %d", finalized)
		}
	})
}

// TestTheManagerWaitsForWhatIsMissing: an input that nobody put is awaited inside the challenge window, and an error for good
// only after it.
func TestTheManagerWaitsForWhatIsMissing(t *testing.T) {
	kinds(t, func(t *testing.T, kind altda.CommitmentType, _ *altda.DAClient) {
		ctx, manager := context.Background(), manager(t, kind)
		var unknown altda.CommitmentData = altda.NewKeccak256Commitment(noise(t, 100))
		if kind == altda.GenericCommitmentType {
			unknown = altda.NewGenericCommitment(append([]byte{0xff}, noise(t, 32)...))
		}
		// Each try looks one block further.
		for range challengeWindow + 2 {
			if _, err := manager.GetInput(ctx, quiet{}, unknown, block(1)); !errors.Is(err, altda.ErrPendingChallenge) {
				t.Fatalf("inside the window: %v", err)
			}
		}
		if _, err := manager.GetInput(ctx, quiet{}, unknown, block(1)); !errors.Is(err, altda.ErrMissingPastWindow) {
			t.Fatalf("past the window: %v", err)
		}
	})
}

// TestTheManagerFollowsChallenges: an input that nobody put and that was challenged is awaited, then taken from L1 or skipped.
func TestTheManagerFollowsChallenges(t *testing.T) {
	config := altda.Config{
		CommitmentType:  altda.Keccak256CommitmentType,
		ChallengeWindow: challengeWindow,
		ResolveWindow:   resolveWindow,
	}
	ctx, client := context.Background(), modes(t)["keccak"]
	state := altda.NewState(log.New(), &altda.NoopMetrics{}, config)
	manager := altda.NewAltDAWithState(log.New(), config, client, &altda.NoopMetrics{}, state)
	input, lost := noise(t, 1_000), altda.NewKeccak256Commitment(noise(t, 1_000))
	resolved := altda.NewKeccak256Commitment(input)
	for _, commitment := range []altda.CommitmentData{resolved, lost} {
		state.CreateChallenge(commitment, block(2).ID(), 1)
		if _, err := manager.GetInput(ctx, quiet{}, commitment, block(1)); !errors.Is(err, altda.ErrPendingChallenge) {
			t.Fatalf("challenged: %v", err)
		}
	}
	if err := state.ResolveChallenge(resolved, block(3).ID(), 1, input); err != nil {
		t.Fatal(err)
	}
	if got, err := manager.GetInput(ctx, quiet{}, resolved, block(1)); err != nil || !bytes.Equal(got, input) {
		t.Fatalf("resolved on L1: %v", err)
	}
	state.ExpireChallenges(block(2 + resolveWindow).ID())
	if _, err := manager.GetInput(ctx, quiet{}, lost, block(1)); !errors.Is(err, altda.ErrExpiredChallenge) {
		t.Fatalf("never resolved: %v", err)
	}
}

// TestTheManagerNeverGivesUpWhatIsOutOfReach: past the window too, because nothing says that the input is gone.
func TestTheManagerNeverGivesUpWhatIsOutOfReach(t *testing.T) {
	ledger(t, func(commitment altda.CommitmentData, input []byte) {
		ctx, manager := context.Background(), manager(t, commitment.CommitmentType())
		for number := uint64(1); number <= 2*challengeWindow; number++ {
			if err := manager.AdvanceL1Origin(ctx, quiet{}, block(number).ID()); err != nil {
				t.Fatal(err)
			}
		}
		got, err := manager.GetInput(ctx, quiet{}, commitment, block(1))
		if errors.Is(err, altda.ErrMissingPastWindow) || errors.Is(err, altda.ErrPendingChallenge) {
			t.Errorf("given up: %v", err)
		}
		if err == nil && !bytes.Equal(got, input) {
			t.Error("wrong bytes")
		}
	})
}
