//! What a run measures on pictures that it is not trained on, what it keeps of that, and how it goes on
//! after whatever ended it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use common::{RECIPE, Workplace, picture};
use image::RgbImage;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::batch::Pictures;
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::recipe::Recipe;
use tunableconv_train::validation::Validation;

/// A table of the log: names of columns, and values as they stand there.
fn log(at: &Workplace, run: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let text = String::from_utf8(at.read(&format!("{run}/metrics.csv"))).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned).collect());
    (rows.next().unwrap(), rows.collect())
}

#[test]
fn a_run_is_validated_and_its_best_weights_are_kept() {
    let at = Workplace::with_many();
    let run = at
        .command("train tiny.toml --data many --run a --steps 60 --log-every 20 --val-every 15")
        .assert()
        .success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("2 images set aside for validation"), "{told}");
    assert!(told.contains("\nstep 20 of 60  loss 0."), "{told}");
    assert!(told.contains("validation "), "{told}");

    let (names, rows) = log(&at, "a");
    let column = |name: &str| names.iter().position(|n| n == name).unwrap();
    let at_rows: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(at_rows, ["15", "20", "30", "40", "45", "60"]);
    let points = ["denoise=1 deblur=0", "denoise=0 deblur=1", "denoise=1 deblur=1"];
    for point in points.iter().chain(&["denoise=0.5 deblur=0.5"]) {
        for kind in ["val_psnr_y", "val_psnr_uv", "val_ssim_y"] {
            let cell = column(&format!("{kind} {point}"));
            let is_there: Vec<bool> = rows.iter().map(|row| !row[cell].is_empty()).collect();
            assert_eq!(is_there, [true, false, true, false, true, true], "{kind} {point}");
        }
    }
    assert!(!names.iter().any(|name| name.contains("denoise=0 deblur=0")), "{names:?}");

    // The best weights are those with the least loss.
    let losses = rows.iter().filter_map(|row| {
        let loss = row[column("val_loss")].parse::<f64>().ok()?;
        Some((loss, row[0].parse::<u64>().unwrap()))
    });
    let best = losses.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let steps = |name: &str| {
        let checkpoint = Checkpoint::read(&at.path(&format!("a/{name}.safetensors"))).unwrap();
        checkpoint.metadata.provenance.steps
    };
    assert_eq!((steps("best"), steps("checkpoint")), (best.1, 60));
    let curves = String::from_utf8(at.read("a/curves.svg")).unwrap();
    assert!(curves.contains("validation, denoise=1 deblur=1"), "{curves}");
    assert!(image::open(at.path("a/samples.png")).unwrap().width() > 200);
}

#[test]
fn validation_may_have_pictures_of_its_own_or_none() {
    let at = Workplace::with_many();
    std::fs::create_dir(at.path("own")).unwrap();
    picture(64, 64, 99).save(at.path("own/x.png")).unwrap();
    let told = |line: &str| {
        let run = at.command(line).assert().success();
        String::from_utf8(run.get_output().stderr.clone()).unwrap()
    };
    let own = told("train tiny.toml --data many --val own --run a");
    assert!(own.contains("1 image given for validation"), "{own}");
    let none = told("train tiny.toml --data many --val-share 0 --run b");
    assert!(none.contains("no pictures for validation"), "{none}");
    let few = told("train tiny.toml --data data --run c");
    assert!(few.contains("no pictures for validation"), "{few}");
    assert!(!at.path("b/best.safetensors").exists() && !at.path("c/samples.png").exists());
    // All pictures are trained on where none is set aside.
    assert!(at.read("a/state.safetensors") != at.read("b/state.safetensors"));
    let slots = |run: &str| {
        Checkpoint::read(&at.path(&format!("{run}/checkpoint.safetensors"))).unwrap().tensors
    };
    assert!(slots("a") == slots("b"));
    // The folder of the validation may be one in that of the training, and pictures there twice.
    std::fs::create_dir(at.path("many/own")).unwrap();
    picture(64, 64, 99).save(at.path("many/own/x.png")).unwrap();
    std::fs::copy(at.path("many/03.png"), at.path("many/own/y.png")).unwrap();
    let within = told("train tiny.toml --data many --val many/own --run d");
    let said = "3 images are not trained on: the same picture is kept for validation";
    assert!(within.contains(said), "{within}");
    assert!(at.fail("train tiny.toml --data own --val own --run e").contains("in --val, too"));
    std::fs::remove_dir_all(at.path("many/own")).unwrap();
    assert!(at.fail("train tiny.toml --data many --val nowhere --run e").contains("nowhere"));
    assert!(at.fail("train tiny.toml --data many --val-share 1 --run e").contains("--val-share"));
}

#[test]
fn what_is_set_aside_is_not_trained_on() {
    let at = Workplace::with_many();
    let mut folder = ImageFolder::load(&[at.path("many")], 16, Keep::Everything).unwrap();
    let all: HashSet<_> = folder.paths().map(Path::to_owned).collect();
    let before = folder.hash();
    let aside = folder.set_aside(5, &mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!((folder.len(), aside.len()), (16, 5));
    let names: HashSet<_> = folder.paths().chain(aside.paths()).map(Path::to_owned).collect();
    assert_eq!(names, all);
    assert!(folder.paths().is_sorted() && aside.paths().is_sorted());
    for (path, pixels) in aside.paths().zip(aside.pieces()) {
        assert_eq!([image::open(path).unwrap().into_rgb8()], pixels);
    }
    assert!(folder.hash() != before && aside.hash() != folder.hash());
}

/// Validation pictures of one flat grey.
fn flat(at: &Workplace) -> Pictures {
    std::fs::create_dir(at.path("flat")).unwrap();
    for name in ["flat/a.png", "flat/b.png"] {
        RgbImage::from_pixel(300, 201, image::Rgb([128; 3])).save(at.path(name)).unwrap();
    }
    Pictures {
        images: ImageFolder::load(&[at.path("flat")], 16, Keep::Everything).unwrap(),
        pairs: None,
    }
}

#[test]
fn the_input_is_as_far_from_its_targets_as_its_noise_is_strong() {
    let at = Workplace::new();
    let text = RECIPE.replace("[0.0, 50.0]", "[25.0, 25.0]").replace("[0.0, 2.0]", "[0.0, 0.0]");
    let held = flat(&at);
    let validation = Validation::new(&Recipe::parse(&text).unwrap(), &held).unwrap();
    // What blurs a flat picture changes nothing, so that its corner has nothing to learn.
    let labels: Vec<&str> = validation.labels().collect();
    assert_eq!(labels, ["denoise=1 deblur=0", "denoise=1 deblur=1", "denoise=0.5 deblur=0.5"]);
    // Independent in R, G and B, then in luma of limited range.
    let share = (0.299_f64.powi(2) + 0.587_f64.powi(2) + 0.114_f64.powi(2)).sqrt() * 219.0 / 255.0;
    let psnr = |sigma: f64| 20.0 * (255.0 / sigma).log10();
    let input = validation.input().unwrap();
    // Noise alone is all the error there is; half of it is a quarter of the error.
    assert!((input.loss - (1.0 + 1.0 + 0.25) / 3.0).abs() < 0.03, "{}", input.loss);
    for (score, sigma) in input.scores.iter().zip([25.0, 25.0, 12.5]) {
        let expected = psnr(sigma * share);
        assert!((score.psnr_y - expected).abs() < 0.1, "{} dB, not {expected}", score.psnr_y);
    }

    // A net that changes nothing leaves the input as it is.
    at.succeed("train tiny.toml --data data --run a");
    let mut checkpoint = Checkpoint::read(&at.path("a/checkpoint.safetensors")).unwrap();
    let (measured, _) = validation.measure(&checkpoint).unwrap();
    assert!(measured != input);
    checkpoint.tensors.values_mut().flatten().for_each(|value| *value = 0.0);
    let (measured, sheet) = validation.measure(&checkpoint).unwrap();
    assert_eq!(measured, input);
    assert!(sheet.render().width() > 5 * 192);
}

#[test]
fn a_killed_run_has_the_log_and_the_best_weights_of_an_uninterrupted_one() {
    let at = Workplace::with_many();
    let rest = "--steps 900 --save-every 7 --log-every 5 --val-every 11";
    at.succeed(&format!("train tiny.toml --data many --run whole {rest}"));
    at.kill_run("killed", &format!("train tiny.toml --data many --run killed {rest}"));
    // As if it had been killed while it wrote.
    std::fs::write(at.path("killed/.state.safetensors.1.tmp"), b"half").unwrap();
    at.succeed("train --resume --run killed");
    let files = ["state.safetensors", "checkpoint.safetensors", "best.safetensors", "metrics.csv"];
    for file in files.iter().chain(&["curves.svg", "samples.png"]) {
        let read = |run: &str| at.read(&format!("{run}/{file}"));
        assert!(read("killed") == read("whole"), "{file}");
    }
    assert!(!at.path("killed/.state.safetensors.1.tmp").exists());
}

#[test]
fn a_run_that_is_asked_to_stop_saves_and_goes_on_later() {
    let at = Workplace::with_many();
    let rest = "--steps 3000 --save-every 50 --log-every 500 --val-every 1000";
    at.succeed(&format!("train tiny.toml --data many --run whole {rest}"));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let run =
            at.begin_run(signal, &format!("train tiny.toml --data many --run {signal} {rest}"));
        // The shell's own: the program is in a package that not every system has.
        let line = format!("kill -s {signal} {}", run.id());
        let kill = Command::new("sh").args(["-c", &line]).status();
        assert!(kill.unwrap().success());
        let ended = run.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{signal}");
        let told = String::from_utf8(ended.stderr).unwrap();
        let (_, saved) = told.split_once("stopped and saved at step ").unwrap();
        let (step, _) = saved.split_once(';').unwrap();
        let resumed = at.command(&format!("train --resume --run {signal}")).assert().success();
        let told = String::from_utf8(resumed.get_output().stderr.clone()).unwrap();
        assert!(told.contains(&format!("resuming at step {step} of 3000")), "{told}");
        for file in ["state.safetensors", "metrics.csv"] {
            assert!(at.read(&format!("{signal}/{file}")) == at.read(&format!("whole/{file}")));
        }
    }
}

#[test]
fn two_processes_do_not_train_in_one_folder() {
    let at = Workplace::new();
    let line = "train tiny.toml --data data --run a --steps 100000 --save-every 1";
    let mut run = at.begin_run("a", line);
    let error = at.fail("train --resume --run a");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(error.contains("another process trains in a"), "{error}");
}

#[test]
fn a_finished_run_is_made_longer() {
    let at = Workplace::with_many();
    at.succeed("train tiny.toml --data many --run a");
    let error = at.fail("train --resume --run a --steps 12");
    assert!(error.contains("--steps 12: the run has taken 12 steps already"), "{error}");
    let again = at.command("train --resume --run a").assert().success();
    let told = String::from_utf8(again.get_output().stderr.clone()).unwrap();
    assert!(told.contains("--steps N trains it further"), "{told}");
    at.succeed("train --resume --run a --steps 30");
    let steps = |at: &Workplace| {
        let checkpoint = Checkpoint::read(&at.path("a/checkpoint.safetensors")).unwrap();
        checkpoint.metadata.provenance.steps
    };
    assert_eq!(steps(&at), 30);
    let (_, rows) = log(&at, "a");
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["12", "30"]);
    at.succeed("train --resume --run a");
    assert_eq!(steps(&at), 30);
}

#[test]
fn a_run_goes_on_only_with_the_contents_it_began_with() {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run a");
    std::fs::create_dir(at.path("moved")).unwrap();
    for index in 0..3 {
        std::fs::copy(
            at.path(&format!("data/{index}.png")),
            at.path(&format!("moved/{index}.png")),
        )
        .unwrap();
    }
    at.succeed("train --resume --run a --data moved --log-every 7");
    // From then on it knows where they are.
    std::fs::rename(at.path("data"), at.path("gone")).unwrap();
    at.succeed("train --resume --run a --steps 20");
    let (_, rows) = log(&at, "a");
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["12", "14", "20"]);
    // Another picture of the same name and size.
    picture(46, 36, 77).save(at.path("moved/1.png")).unwrap();
    let error = at.fail("train --resume --run a --data moved");
    assert!(error.contains("the run began with 3 other images"), "{error}");
}

#[test]
fn a_run_that_cannot_begin_leaves_its_folder_free() {
    let at = Workplace::new();
    let diverges = RECIPE.replace("learning_rate = 1e-3", "learning_rate = 1e30");
    std::fs::write(at.path("wild.toml"), diverges.replace("warmup_steps = 2", "warmup_steps = 0"))
        .unwrap();
    let error = at.fail("train wild.toml --data data --run a --steps 200");
    assert!(error.contains("finite"), "{error}");
    // Nothing was saved, and nothing is in the way.
    at.succeed("train tiny.toml --data data --run a");
    assert!(at.fail("train tiny.toml --data data --run a").contains("already holds a run"));
}

#[test]
fn a_run_that_goes_on_with_other_kernels_says_so() {
    let at = Workplace::new();
    at.kill_run("a", "train tiny.toml --data data --run a --steps 2000 --save-every 20");
    let mut goes_on = at.command("train --resume --run a --steps 3000");
    // Not what it began with, on any machine but one that has nothing else.
    let run = goes_on.env("TUNABLECONV_CPU", "scalar").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    let record = String::from_utf8(at.read("a/run.json")).unwrap();
    assert!(record.contains("\"kernels\": \"scalar\""), "{record}");
    let began_otherwise = tunableconv::engine::cpu::kernels::level_name() != "scalar";
    assert_eq!(told.contains("goes on with scalar"), began_otherwise, "{told}");
}
