//! Comparisons with other ways to give a net a knob.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tiny_nets.rs"]
mod tiny_nets;

use std::collections::BTreeSet;

use common::{Workplace, picture};
use tunableconv_train::compare::{CONTENDERS, Outcome, Results, TASKS, Way};
use tunableconv_train::control::Control;

/// With pictures that are large enough to be measured on.
fn workplace() -> Workplace {
    let at = Workplace::new();
    for index in 0..3 {
        picture(180, 190, index).save(at.path(&format!("data/large{index}.png"))).unwrap();
    }
    at
}

#[test]
fn every_contender_has_a_recipe_for_every_task_that_it_fits() {
    let names: BTreeSet<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
    assert_eq!(names.len(), CONTENDERS.len());
    for task in &TASKS {
        let own = task.recipe().unwrap();
        assert_eq!(own.name, task.name);
        let points = task.points.iter().chain(task.others).chain(&task.way);
        for tuning in points.chain([&task.base]) {
            own.tuning.tuning(tuning).unwrap();
        }
        let mut nets = vec![];
        for contender in CONTENDERS.iter().filter(|contender| contender.fits(task)) {
            let recipe = contender.recipe(task, 7).unwrap();
            assert_eq!(recipe.is_none(), matches!(contender.way, Way::Blend));
            let Some(recipe) = recipe else { continue };
            assert_eq!((recipe.seed, recipe.steps), (7, own.steps));
            // The same net once folded, but for one with two branches.
            let more = recipe.net.macs() / own.net.macs();
            let expected = if contender.name == "cfsnet" { 1.5..2.0 } else { 1.0..1.001 };
            assert!(expected.contains(&more), "{}: {more}", contender.name);
            let twice = matches!(contender.way, Way::TrainedTwice(_));
            let is_frozen = |control: &Control| control.frozen && control.base.is_some();
            assert_eq!(recipe.control.as_ref().is_some_and(is_frozen), twice);
            nets.push((
                contender.name,
                (recipe.net, recipe.control, recipe.batch, recipe.objectives, recipe.optimiser),
            ));
        }
        for (index, (name, net)) in nets.iter().enumerate() {
            let twin = nets[..index].iter().find(|(_, other)| other == net);
            assert!(twin.is_none(), "{}: {name} is {}", task.name, twin.unwrap().0);
        }
    }
}

#[test]
fn what_is_done_is_kept_and_not_done_again() {
    let at = workplace();
    let line = "compare noise --data data --test data --pictures 2 --steps 3 --seeds 1,2 --only";
    let told = |line: &str| {
        let output = at.command(line).assert().success().get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    // A blend and a net that is trained twice bring the oracle that they begin with.
    let first = told(&format!("{line} blend dni"));
    assert_eq!(first.matches("noise/oracle-1, seed").count(), 2, "{first}");
    assert_eq!(first.matches("noise/dni, seed").count(), 2, "{first}");
    let results = || Results::read(&at.path("results/noise.jsonl")).unwrap();
    let names: Vec<_> =
        results().outcomes().iter().map(|own| (own.contender.clone(), own.seed)).collect();
    let expected = ["blend", "dni", "oracle-1"];
    let expected: Vec<_> =
        expected.iter().flat_map(|name| [1, 2].map(|seed| ((*name).to_owned(), seed))).collect();
    assert_eq!(names, expected);
    let of = |name: &str| results().get(name, 1).unwrap().clone();
    // Where only one net of the two counts the blend is that.
    let last = TASKS[0].points.len() - 1;
    assert_eq!(of("blend").points[last].psnr, of("oracle-1").points[last].psnr);
    assert_eq!(of("blend").response.len(), 11);
    assert_eq!(of("blend").response[0], 0.0);
    assert_eq!((of("oracle-1").steps, of("dni").steps), (3, 6));
    // What is frozen at the strongest noise is the oracle there.
    let gap = of("dni").points[last].psnr - of("oracle-1").points[last].psnr;
    assert!(gap.abs() < 1e-4, "{gap}");
    assert!(of("oracle-1").response.iter().all(|distance| *distance < 1e-3));

    // The runs are not needed any more.
    std::fs::remove_dir_all(at.path("runs")).unwrap();
    let again = told(&format!("{line} blend dni"));
    assert!(!again.contains("seed"), "{again}");
    let before = results().outcomes().to_vec();
    let more = told(&format!("{line} film tunable-mlp1 --report RESULTS.md"));
    assert_eq!(of("tunable-mlp1").folded, of("film").folded);
    assert!(more.contains("noise/film, seed 2") && !more.contains("oracle"), "{more}");
    assert!(before.iter().all(|own| results().outcomes().contains(own)));

    let page = at.read("RESULTS.md");
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("3 steps of 16 crops of 48×48"), "{page}");
    assert!(page.contains("measured on 2 crops") && page.contains("seeds 1, 2"), "{page}");
    for title in ["output blend", "DNI", "FiLM"] {
        assert_eq!(page.matches(&format!("| {title} |")).count(), 2, "{title}: {page}");
    }
    assert!(page.contains("(results/noise.svg)") && at.path("results/noise.svg").exists());
    // Other steps are another comparison, which is not mixed with this one.
    let other =
        "compare noise --data data --test data --pictures 2 --steps 4 --runs other --only film";
    let refused = at.fail(other);
    assert!(refused.contains("noise.jsonl holds another comparison"), "{refused}");
    assert!(!at.path("other").exists());
    assert!(told(&format!("{other} --results other")).contains("noise/film, seed 1"));
}

#[test]
fn each_has_the_learning_rate_that_is_best_on_other_pictures() {
    let at = workplace();
    let line = "compare noise --data data --test data --pictures 2 --steps 12 --only dni blend fast \
                --report RESULTS.md --val data";
    let output = at.command(&format!("{line} --rates 1e-3,3e-2")).assert().success();
    let told = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    let results = |folder: &str| Results::read(&at.path(&format!("{folder}/noise.jsonl"))).unwrap();
    let of = |name: &str| results("results").get(name, 1).unwrap().clone();
    let page = String::from_utf8(at.read("RESULTS.md")).unwrap();
    for (name, title) in [("dni", "DNI"), ("oracle-1", "oracle-1")] {
        let losses = ["1e-3", "3e-2"].map(|rate| {
            let line = format!("{name}, seed 1, learning rate {rate}: ");
            let loss = told.split(&line).nth(1).unwrap().split(' ').next().unwrap();
            (loss.parse::<f64>().unwrap(), rate)
        });
        let (_, best) = losses.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let chosen = of(name).learning_rate.unwrap();
        assert_eq!(chosen, best.parse::<f64>().unwrap(), "{name}: {losses:?}");
        assert!(name != "oracle-1" || page.contains(&format!("{title} {best}")), "{page}");
    }
    // The first seed chooses for the others.
    let output = at.command(&format!("{line} --rates 1e-3,3e-2 --seeds 2")).assert().success();
    let second = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    let rates = [1, 2].map(|seed| results("results").get("dni", seed).unwrap().learning_rate);
    assert!(rates[0].is_some() && rates[0] == rates[1], "{rates:?}");
    assert_eq!(second.matches("noise/dni, seed 2").count(), 1, "{second}");
    // What mixes nets, and what is about its rate, has none that was chosen.
    assert_eq!([of("blend"), of("fast")].map(|own| own.learning_rate), [None; 2]);
    // The blend and what is trained twice are of the oracle that was chosen.
    let last = TASKS[0].points.len() - 1;
    assert_eq!(of("blend").points[last].psnr, of("oracle-1").points[last].psnr);
    let gap = of("dni").points[last].psnr - of("oracle-1").points[last].psnr;
    assert!(gap.abs() < 1e-4, "{gap}");
    // One that diverges is not chosen; if all do, that is an error.
    let other =
        "compare noise --data data --test data --pictures 2 --steps 12 --only blind --val data";
    let line = format!("{other} --results other --runs other");
    for _ in 0..2 {
        let output = at.command(&format!("{line} --rates 1e30,1e-3")).assert().success();
        let told = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        let is_told = told.contains("blind, seed 1, learning rate 1e30: step ");
        // Another time there is nothing to do.
        assert_eq!(is_told, told.contains("noise/blind"), "{told}");
    }
    let told = at.fail(&format!("{other} --results none --runs other --rates 1e30"));
    assert!(told.contains("blind, seed 1: it diverged at all --rates"), "{told}");
    // Another choice is another comparison.
    let refused = at.fail(&format!("{line} --rates 1e-3"));
    assert!(refused.contains("holds another comparison"), "{refused}");
    for (flags, part) in [
        ("--rates 1e-3", "--val"),
        ("--rates 0 --val data", "--rates 0, expected more than 0"),
        ("--rates 1e-3 --val nowhere", "nowhere"),
    ] {
        let told = at.fail(&format!(
            "compare noise --data data --test data --results other --only film {flags}"
        ));
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_comparison_goes_on_where_it_was_stopped() {
    let at = workplace();
    let line = "compare corners --data data --test data --pictures 2 --steps 30 --only last-layer";
    let run = at.path("runs/compare/corners/last-layer-1");
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_tunableconv-train"))
        .current_dir(at.path(""))
        .args(line.split_whitespace())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !run.join("recipe.toml").exists() {
        assert!(process.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    let id = process.id().to_string();
    assert!(std::process::Command::new("kill").arg(id).status().unwrap().success());
    assert!(!process.wait().unwrap().success());
    assert!(!at.path("results/corners.jsonl").exists());
    at.succeed(line);
    at.succeed(&format!("{line} --runs other --results other"));
    let outcome = |folder: &str| {
        let results = Results::read(&at.path(&format!("{folder}/corners.jsonl"))).unwrap();
        results.get("last-layer", 1).unwrap().clone()
    };
    // How long it took is known of the run that was not stopped.
    let (resumed, other) = (outcome("results"), outcome("other"));
    assert!(other.seconds.is_some());
    assert_eq!(resumed, Outcome { seconds: resumed.seconds, ..other });

    std::fs::remove_dir_all(at.path("results")).unwrap();
    let told = at.fail(&line.replace("30", "3"));
    assert!(told.contains("last-layer-1 is a run of another recipe"), "{told}");
}

#[test]
fn objectives_of_another_kind_are_measured_by_their_losses() {
    let at = workplace();
    candle_core::safetensors::save(&tiny_nets::tiny_squeezenet(), at.path("net.safetensors"))
        .unwrap();
    let line =
        "compare lifelike --data data --test data --pictures 1 --steps 1 --only tunable oracles";
    assert!(at.fail(line).contains("give --features FILE"));
    at.succeed(&format!("{line} --features net.safetensors --report RESULTS.md"));
    let page = String::from_utf8(at.read("RESULTS.md")).unwrap();
    assert!(page.contains("`lifelike.features`") && page.contains("largest gap, %"), "{page}");
    let results = Results::read(&at.path("results/lifelike.jsonl")).unwrap();
    let point = &results.get("tunable", 1).unwrap().points[0];
    let l1 = point.losses["accurate.l1"];
    assert!((point.loss - 20.0 * l1).abs() < 1e-4 * point.loss, "{point:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let at = workplace();
    let told = at.fail("compare noise --data data --test data --only nobody");
    assert!(told.contains("--only nobody") && told.contains("film"), "{told}");
    assert!(at.fail("compare nothing --data data --test data").contains("noise, levels, corners"));
    std::fs::create_dir(at.path("results")).unwrap();
    std::fs::write(at.path("results/noise.jsonl"), "{}\n").unwrap();
    let told = at.fail("compare noise --data data --test data");
    assert!(told.contains("results/noise.jsonl, line 1"), "{told}");
    let told = at.fail("compare --report elsewhere/RESULTS.md");
    assert!(told.contains("does not lie beside"), "{told}");
}
