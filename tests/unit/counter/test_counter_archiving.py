from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.archiving import marker_of


def test_a_marker_says_how_a_run_ended_and_is_small() -> None:
    metadata = [pb.MetadataRef(language=f"l{n}", fingerprint="f" * 32) for n in range(300)]
    problems = [pb.TaskRecord(error="x" * 1000)] * 100
    emission = pb.Emission(key="k", spec=pb.EmissionSpec(t=5))
    run = pb.Run(run_id="r", state=pb.RUN_STATE_DONE, pairs=7, created_at=1.5, emissions=[emission])
    whole = pb.Run(spec=pb.RunSpec(metadata=metadata), problems=problems)
    whole.MergeFrom(run)
    ref = pb.ObjectRef(url="/out/archive.jsonl.gz", hash="a" * 32)
    marker = marker_of(whole, ref)
    assert (marker.state, marker.archive) == (pb.RUN_STATE_ARCHIVED, ref)
    assert marker.ByteSize() < 200
    marker.ClearField("archive")
    marker.state = pb.RUN_STATE_DONE
    assert marker == run
    assert whole.state == pb.RUN_STATE_DONE
