//! Input from strangers: what is wrong with it is told by name, costs nothing else, and is never taken
//! for something that it is not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{RECIPE, Workplace, picture};

/// A workplace with a trained checkpoint, `c`, and a folder of one usable image, `one`.
fn trained() -> Workplace {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run a");
    fs::rename(at.path("a/checkpoint.safetensors"), at.path("c")).unwrap();
    fs::create_dir(at.path("one")).unwrap();
    picture(40, 36, 5).save(at.path("one/a.png")).unwrap();
    at
}

/// The first line with this in it.
fn line_with<'t>(text: &'t str, part: &str) -> &'t str {
    text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {text}"))
}

#[test]
fn images_of_odd_sizes_do_not_cost_the_others() {
    let at = trained();
    let alone = at.succeed("score c --data one --noise 25 --tuning denoise=1");
    picture(8, 8, 1).save(at.path("one/b.png")).unwrap();
    picture(8200, 12, 1).save(at.path("one/z.png")).unwrap();
    fs::write(at.path("one/t.jpg"), b"some text").unwrap();
    let run = at.command("score c --data one --noise 25 --tuning denoise=1").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(line_with(&told, "b.png").contains("8x8, expected sides of 11 to 8192"), "{told}");
    assert!(line_with(&told, "z.png").contains("8200x12"), "{told}");
    assert!(line_with(&told, "t.jpg").contains("no PNG, JPEG or WebP image"), "{told}");
    let scores = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    assert_eq!(line_with(&scores, "output"), line_with(&alone, "output"));
    assert!(scores.starts_with("1 images (3 skipped)"), "{scores}");
    at.succeed("evaluate c --data one --noise 25 --blur 0 --out r");
    let report = String::from_utf8(at.read("r/report.json")).unwrap();
    assert!(report.contains("\"skipped\": 3"), "{report}");
}

#[test]
fn a_condition_given_twice_is_measured_once() {
    let at = trained();
    at.succeed("evaluate c --data one --noise 25 --blur 0 --out once");
    at.succeed("evaluate c --data one --noise 25,25 --blur 0,0 --out twice");
    assert!(at.read("once/report.json") == at.read("twice/report.json"));
    let error = at.fail("score c --data one --tuning denoise=0.5,denoise=0.7");
    assert!(error.contains("`denoise`: it is given twice"), "{error}");
}

#[test]
fn clips_that_cannot_be_used_are_told_before_any_work() {
    let at = trained();
    let clip = |header: &str, bytes: usize| {
        let frame = [&b"FRAME\n"[..], &vec![99; bytes]].concat();
        [format!("YUV4MPEG2 {header}\n").as_bytes(), &frame, &frame].concat()
    };
    for order in ["It", "Ib", "Im"] {
        fs::write(at.path("x.y4m"), clip(&format!("W16 H16 F25:1 {order}"), 384)).unwrap();
        let error = at.fail("degrade x.y4m --noise 5 --out y.y4m");
        assert!(error.contains("interlaced"), "{error}");
    }
    fs::write(at.path("x.y4m"), clip("W16 H16 F25:1 Ip", 384)).unwrap();
    at.succeed("degrade x.y4m --noise 5 --out y.y4m");
    for strength in ["--noise 1e30", "--blur 1e9", "--noise=-1"] {
        let error = at.fail(&format!("degrade x.y4m {strength} --out z.y4m"));
        assert!(error.contains("expected 0 to 1000"), "{error}");
    }
    // With padding, as of 20 columns instead of 16.
    fs::write(at.path("x.y4m"), clip("W16 H16 F25:1 Ip", 480)).unwrap();
    let error = at.fail("degrade x.y4m --noise 5 --out z.y4m");
    assert!(
        error.contains("frame 1") && error.contains("384 bytes of a picture of 16x16"),
        "{error}"
    );
    assert!(!at.path("z.y4m").exists());
    fs::write(at.path("w.y4m"), clip("W8200 H8 F25:1", 98_400)).unwrap();
    let error = at.fail("evaluate c --data one --noise 25 --blur 0 --clip w.y4m --out r");
    assert!(error.contains("w.y4m: 8200x8"), "{error}");
}

#[test]
fn recipes_say_what_they_mean_or_are_refused() {
    let at = Workplace::new();
    let refused = |text: String| {
        fs::write(at.path("bad.toml"), text).unwrap();
        at.fail("train bad.toml --data data --run bad")
    };
    let with_loss = |loss: &str| {
        let tables =
            format!("[[objectives]]\nparameter = \"denoise\"\nloss = {{ {loss} }}\n\n[batch]");
        refused(RECIPE.replace("[batch]", &tables))
    };
    for (kind, key) in [
        ("l1", "weight = 3.0"),
        ("l2", "epsilon = 1e-3"),
        ("ssim", "window = 7"),
        ("ms-ssim", "nonsense = \"x\""),
        ("total-variation", "weight = 1e-4"),
        ("corner-targets", "share = 1"),
        ("charbonnier", "epsilon = 1e-3, window = 7"),
    ] {
        let error = with_loss(&format!("kind = \"{kind}\", {key}"));
        assert!(error.contains("unknown field"), "{kind}, {key}: {error}");
    }
    let uniform = RECIPE.replace("\"corner-boosted\"", "\"uniform\"");
    assert!(refused(uniform).contains("unknown field `share`"));
    let renamed = |name: &str| refused(RECIPE.replace("\"denoise\"", &format!("\"{name}\"")));
    for name in ["name", "parent", "qos", "precision", "stats", "overload", "keyframes"] {
        let error = renamed(name);
        assert!(error.contains(&format!("`{name}`: the element has another property")), "{error}");
    }
    for (from, to, told) in [
        ("maximum = 1.0, default = 1.0", "maximum = 2.0, default = 1.0", "from 0 to 2"),
        ("crop = 16", "crop = 2000", "batch.crop = 2000"),
        ("halo = 4", "halo = 65", "batch.halo = 65"),
        ("final_learning_rate = 1e-5", "final_learning_rate = 2.0", "final_learning_rate = 2"),
    ] {
        let error = refused(RECIPE.replace(from, to));
        assert!(error.contains(told), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_pipes_written_into() {
    use std::os::unix::fs::symlink;
    let at = trained();
    symlink("real", at.path("link")).unwrap();
    at.succeed("export-onnx c --tuning denoise=1 --out link");
    at.succeed("export-onnx c --tuning denoise=1 --out plain");
    assert!(at.path("link").is_symlink());
    let onnx = at.read("plain");
    assert!(at.read("real") == onnx);
    let piped = at.command("export-onnx c --tuning denoise=1 --out /dev/stdout").assert().success();
    assert!(piped.get_output().stdout == onnx);
    fs::create_dir(at.path("reports")).unwrap();
    symlink("reports", at.path("latest")).unwrap();
    for _ in 0..2 {
        at.succeed("evaluate c --data one --noise 25 --blur 0 --out latest");
        assert!(at.path("latest").is_symlink() && at.path("reports/report.md").exists());
    }
    symlink("none", at.path("dangling")).unwrap();
    let error = at.fail("evaluate c --data one --noise 25 --blur 0 --out dangling");
    assert!(error.contains("dangling is a link to a folder that there is not"), "{error}");
}

/// Names of a process's threads.
#[cfg(target_os = "linux")]
fn threads_of(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.ok()?)).map(|name| name.trim().to_owned()).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn threads_are_as_many_as_asked_for() {
    let at = Workplace::with_many();
    // A net that the row pipeline runs.
    let text = RECIPE.replace("channels = 4", "channels = 8");
    fs::write(at.path("tiny.toml"), text).unwrap();
    for threads in [1, 5] {
        let run = format!("run{threads}");
        let line = format!(
            "train tiny.toml --data data many --run {run} --steps 100000 --save-every 1 --val-every 1 \
             --threads {threads}"
        );
        let mut process = at.begin_run(&run, &line);
        let names = threads_of(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        // The one that trains is one of them.
        assert_eq!(names.len(), threads, "{names:?}");
    }
    // Nothing is started that is not needed, nor endlessly many.
    assert!(at.fail("inspect tiny.toml --threads 5000").contains("expected 0 to 256"));
}

#[test]
fn what_cannot_be_read_of_a_folder_is_told() {
    let at = trained();
    for name in ["one/a.HEIC", "one/b.heic", "one/c.tif", "one/notes.txt"] {
        fs::write(at.path(name), b"").unwrap();
    }
    let run = at.command("score c --data one --tuning denoise=1").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("one: 2 of .heic, 1 of .tif are not read"), "{told}");
}

#[test]
fn inputs_are_not_replaced_by_outputs() {
    let at = trained();
    let frame = [&b"FRAME\n"[..], &[99; 384]].concat();
    fs::write(at.path("x.y4m"), [&b"YUV4MPEG2 W16 H16 F25:1\n"[..], &frame].concat()).unwrap();
    picture(64, 48, 1).save(at.path("p.png")).unwrap();
    std::os::unix::fs::symlink(at.path("x.y4m"), at.path("link.y4m")).unwrap();
    for (line, file) in [
        ("degrade x.y4m --noise 5 --out x.y4m", "x.y4m"),
        ("degrade x.y4m --noise 5 --out ./link.y4m", "link.y4m"),
        ("export-onnx c --out c", "c"),
        ("sweep c p.png --out p.png", "p.png"),
        ("sweep c p.png --out c", "c"),
        ("forward c --input x.y4m --output x.y4m", "x.y4m"),
    ] {
        let before = at.read(file);
        let error = at.fail(line);
        assert!(error.contains(&format!("{file} is an input")), "{line}: {error}");
        assert!(before == at.read(file), "{line}");
    }
}

#[test]
fn a_dash_is_what_comes_in_and_goes_out() {
    let at = trained();
    let frame = [&b"FRAME\n"[..], &[99; 384]].concat();
    let clip = [&b"YUV4MPEG2 W16 H16 F25:1\n"[..], &frame, &frame].concat();
    fs::write(at.path("x.y4m"), &clip).unwrap();
    at.succeed("degrade x.y4m --noise 5 --out y.y4m");
    let piped = at.command("degrade - --noise 5 --out -").write_stdin(clip).assert().success();
    assert!(piped.get_output().stdout == at.read("y.y4m"));
    at.succeed("export-onnx c --out model.onnx");
    let piped = at.command("export-onnx c --out -").assert().success();
    assert!(piped.get_output().stdout == at.read("model.onnx"));
    picture(64, 48, 1).save(at.path("p.png")).unwrap();
    let piped = at.command("sweep c p.png --crop 32 --out -").assert().success();
    assert!(piped.get_output().stdout.starts_with(b"\x89PNG"));
}

#[test]
fn nobody_needs_to_listen() {
    let at = trained();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for line in ["inspect c", "score c --data one", "train tiny.toml --data data --run unheard"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tunableconv-train"));
        command.current_dir(at.path(".")).args(line.split_whitespace());
        command.stdout(writer.try_clone().unwrap()).stderr(writer.try_clone().unwrap());
        assert!(command.status().unwrap().success(), "{line}");
    }
    assert!(at.path("unheard/checkpoint.safetensors").exists());
}

#[test]
fn names_do_not_steer_the_terminal() {
    let at = trained();
    fs::write(at.path("one/\u{1b}[2Jx.png"), b"no").unwrap();
    let run = at.command("score c --data one").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("one/\\u{1b}[2Jx.png") && !told.contains('\u{1b}'), "{told:?}");
    let error = at.fail("inspect \u{1b}[31m");
    assert!(!error.contains('\u{1b}'), "{error:?}");
}
