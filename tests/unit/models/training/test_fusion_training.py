from models.training.fusion import train_fusion

def test_runs(fusion_call, recording_sink):
    sink = recording_sink()
    args = fusion_call()
    rec = train_fusion(args.pop("cfg"), sink=sink, **args)
    print(rec)
    for k,v in sink.rows.items(): print(k, v)
    import subprocess
    print(subprocess.run(["find", str(args["out"].parent), "-type", "f"], capture_output=True, text=True).stdout)
