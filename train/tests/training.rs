//! Runs: reproducible, resumable after a kill, and clear about bad input.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace, entries, picture};
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::batch::{self, Pictures};
use tunableconv_train::corner_targets::{channel_scales, corner_weights, mean_target};
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::multi_loss::{DeviceBatch, MultiLoss};
use tunableconv_train::pairs::PairFolder;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::tunings::StepTunings;
use tunableconv_train::view::View;

#[test]
fn same_seed_same_weights_whatever_the_thread_count() {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run a --threads 1");
    at.succeed("train tiny.toml --data data --run b --threads 3");
    at.succeed("train tiny.toml --data data --run c --seed 4");
    assert!(at.read("a/state.safetensors") == at.read("b/state.safetensors"));
    assert!(at.read("a/checkpoint.safetensors") == at.read("b/checkpoint.safetensors"));
    assert!(at.read("a/checkpoint.safetensors") != at.read("c/checkpoint.safetensors"));
    let checkpoint = Checkpoint::read(&at.path("a/checkpoint.safetensors")).unwrap();
    assert_eq!(checkpoint.metadata.provenance.steps, 12);
    assert_eq!(checkpoint.metadata.provenance.seed, 3);
}

#[test]
fn training_lowers_the_loss() {
    let at = Workplace::new();
    let strong = RECIPE
        .replace("channels = 4", "channels = 8")
        .replace("sigma = [0.0, 50.0]", "sigma = [50.0, 50.0]")
        .replace("learning_rate = 1e-3", "learning_rate = 5e-3");
    std::fs::write(at.path("strong.toml"), strong).unwrap();
    at.succeed("train strong.toml --data data --run a --steps 400 --log-every 100");
    let log = String::from_utf8(at.read("a/metrics.csv")).unwrap();
    let loss = |line: &str| line.split(',').nth(1).unwrap().parse::<f64>().unwrap();
    let losses: Vec<f64> = log.lines().skip(1).map(loss).collect();
    assert_eq!(losses.len(), 4);
    assert!(losses[3] < 0.75 * losses[0], "{losses:?}");
}

#[test]
fn a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one() {
    let at = Workplace::new();
    let rest = "--save-every 7 --log-every 5";
    at.succeed(&format!("train tiny.toml --data data --run whole --steps 900 {rest}"));

    let line = format!("train tiny.toml --data data --run killed --steps 900 {rest}");
    at.kill_run("killed", &line);
    assert!(at.read("killed/state.safetensors") != at.read("whole/state.safetensors"));

    at.succeed(&format!("train --resume --run killed --data data {rest}"));
    assert!(at.read("killed/state.safetensors") == at.read("whole/state.safetensors"));
    assert!(at.read("killed/checkpoint.safetensors") == at.read("whole/checkpoint.safetensors"));
    assert!(at.read("killed/metrics.csv") == at.read("whole/metrics.csv"));
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_on_other_images() {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run a");
    let before = at.read("a/state.safetensors");
    assert!(at.fail("train tiny.toml --data data --run a").contains("already holds a run"));
    assert!(at.fail("train --resume --run b --data data").contains("b holds no run to resume"));
    assert!(at.fail("train --resume --run a --data data --seed 9").contains("--resume keeps"));
    assert!(at.fail("train tiny.toml --resume --run a --data data").contains("not both"));
    std::fs::remove_file(at.path("data/1.png")).unwrap();
    let began = "began with 3 images, there are 2 now";
    assert!(at.fail("train --resume --run a --data data").contains(began));
    assert!(before == at.read("a/state.safetensors"));
}

#[test]
fn a_truncated_state_is_named() {
    let at = Workplace::new();
    at.succeed("train tiny.toml --data data --run a");
    let state = at.read("a/state.safetensors");
    std::fs::write(at.path("a/state.safetensors"), &state[..state.len() / 2]).unwrap();
    assert!(at.fail("train --resume --run a --data data").contains("a/state.safetensors"));
}

#[test]
fn bad_recipes_are_refused_in_one_line_that_names_the_key() {
    let at = Workplace::new();
    let refused = |from: &str, to: &str| {
        assert!(RECIPE.contains(from), "{from}");
        std::fs::write(at.path("bad.toml"), RECIPE.replace(from, to)).unwrap();
        let error = at.fail("train bad.toml --data data --run bad");
        assert!(error.contains("bad.toml"), "{error}");
        assert!(!at.path("bad").exists());
        error
    };
    assert!(refused("steps = 12", "steps = 12\nstep_size = 3").contains("step_size"));
    assert!(refused("steps = 12", "steps = 0").contains("steps = 0"));
    assert!(refused("channels = 4", "channels = 0").contains("channels = 0"));
    assert!(refused("crop = 16", "crop = 15").contains("crop = 15"));
    assert!(refused("parameter = \"deblur\"", "parameter = \"sharpen\"").contains("`sharpen`"));
    assert!(refused("[[\"denoise\"],", "[[\"grain\"],").contains("`grain`"));
    assert!(refused("sigma = [0.0, 2.0]", "sigma = [3.0, 2.0]").contains("deblur"));
    let recorded = refused("kind = \"noise\", sigma = [0.0, 50.0]", "kind = \"recorded\"");
    assert!(recorded.contains("degradations"), "{recorded}");
    assert!(refused("learning_rate = 1e-3", "learning_rate = -1.0").contains("learning_rate"));
    assert!(refused("default = 0.0", "default = 7.0").contains("deblur"));
    assert!(at.fail("train none.toml --data data --run x").contains("none.toml"));
}

#[test]
fn bad_image_folders_are_named_and_broken_images_skipped() {
    let at = Workplace::new();
    assert!(at.fail("train tiny.toml --data nowhere --run a").contains("nowhere"));
    std::fs::create_dir(at.path("empty")).unwrap();
    assert!(at.fail("train tiny.toml --data empty --run a").contains("empty"));
    std::fs::write(at.path("data/broken.jpg"), b"not a picture").unwrap();
    let run = at.command("train tiny.toml --data data --run a").assert().success();
    let warnings = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert_eq!(warnings.matches("broken.jpg").count(), 1, "{warnings}");
    assert!(warnings.contains("3 images, 1 skipped"), "{warnings}");
    assert_eq!(entries(&at.path("a")), 6);
}

#[test]
fn a_batch_depends_on_seed_and_step_only() {
    let at = Workplace::new();
    let mut recipe = Recipe::parse(RECIPE).unwrap();
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    let pictures = Pictures { images, pairs: None };
    let first = batch::make(&recipe, &pictures, 5);
    assert_eq!(first, batch::make(&recipe, &pictures, 5));
    assert_ne!(first, batch::make(&recipe, &pictures, 6));
    recipe.seed += 1;
    assert_ne!(first, batch::make(&recipe, &pictures, 5));
    assert_eq!(first.tunings.len(), 2 * 2);
    assert_eq!(first.scales.len(), 4 * 6);
    assert_eq!(first.input.len(), 4 * 6 * 8 * 8);
}

#[test]
fn a_share_of_the_crops_is_drawn() {
    let at = Workplace::new();
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    let pictures = Pictures { images, pairs: None };
    // Luma of crops that is nearly white or black, of which the photographs have little.
    let extremes = |drawn: &str| {
        let recipe = RECIPE.replace("[batch]", &format!("[batch]\ndrawn = {drawn}"));
        let recipe = Recipe::parse(&recipe).unwrap();
        let inputs = (0..40).map(|step| batch::make(&recipe, &pictures, step).input);
        let luma: Vec<f32> = inputs
            .flat_map(|input| {
                let crops = input.chunks(6 * 8 * 8).map(|crop| crop[..4 * 8 * 8].to_vec());
                crops.flatten().collect::<Vec<f32>>()
            })
            .collect();
        let is_extreme = |value: &&f32| !(0.01..0.99).contains(*value);
        luma.iter().filter(is_extreme).count() as f64 / luma.len() as f64
    };
    let (none, half, all) = (extremes("0"), extremes("0.5"), extremes("1"));
    assert!(none < half / 2.0 && all > 1.5 * half, "{none} {half} {all}");
}

#[test]
fn at_a_corner_the_target_is_that_corners_own() {
    let recipe = Recipe::parse(RECIPE).unwrap();
    assert_eq!(recipe.corners(), [0, 1, 2, 3]);
    assert_eq!(corner_weights(&recipe, &[1.0, 0.0]), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(corner_weights(&recipe, &[0.5, 0.25]), [0.375, 0.375, 0.125, 0.125]);
    // Bit 0 is denoise: that corner keeps the blur, which comes first in the chain.
    assert_eq!(recipe.kept_at(1), [true, false]);
    assert_eq!(recipe.kept_at(2), [false, true]);
    let targets = vec![vec![0.0, 4.0], vec![8.0, 0.0]];
    assert_eq!(mean_target(&[0.25, 0.75], &targets), [6.0, 1.0]);
}

#[test]
fn the_mean_target_stands_for_the_weighted_objectives() {
    // Both forms of the loss may differ by a constant only, so their differences must agree.
    let (weights, targets) = ([0.2f32, 0.5, 0.3], [[1.0f32, 4.0], [-2.0, 0.5], [3.0, 1.0]]);
    let squares =
        |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let mean = mean_target(&weights, &targets.map(|t| t.to_vec()));
    let several =
        |y: &[f32]| -> f32 { weights.iter().zip(&targets).map(|(w, t)| w * squares(y, t)).sum() };
    let (a, b) = ([0.3, -1.0], [2.0, 5.0]);
    let (expected, got) = (several(&a) - several(&b), squares(&a, &mean) - squares(&b, &mean));
    assert!((expected - got).abs() < 1e-4, "{expected} {got}");
}

#[test]
fn luma_and_chroma_are_each_measured_against_their_own_error() {
    let clean = vec![0.5f32; 6 * 4];
    let input: Vec<f32> = (0..24).map(|i| if i < 16 { 0.6 } else { 0.51 }).collect();
    let scales = channel_scales(View::YUV420, &input, &clean);
    let floor = (2.0f32 / 255.0).powi(2);
    for (channel, scale) in scales.iter().enumerate() {
        let error = if channel < 4 { 0.01 } else { 0.0001 };
        assert!((scale * (error + floor) - 1.0).abs() < 1e-3, "{channel}: {scale}");
    }
}

#[test]
fn a_logarithmic_error_counts_factors_alike() {
    let at = Workplace::new();
    let text = format!(
        "{RECIPE}\n[[objectives]]\nloss = {{ kind = \"corner-targets\", scale = \"log\" }}\n"
    );
    let recipe = Recipe::parse(&text).unwrap();
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    let batch = batch::make(&recipe, &Pictures { images, pairs: None }, 1);
    let device = candle_core::Device::Cpu;
    let loss = MultiLoss::new(&recipe, None, &device).unwrap();
    let on_device = DeviceBatch::new(&batch, &recipe, &device).unwrap();
    let nothing = on_device.unfiltered(recipe.view()).unwrap();
    // Of a net that changes nothing the error is what was asked of it.
    let floor = (0.5f64 / 255.0).powi(2);
    let log = |wanted: &[f32]| {
        let squares: f64 = wanted.iter().map(|v| f64::from(*v).powi(2)).sum();
        (1.0 + squares / wanted.len() as f64 / floor).ln()
    };
    let samples: Vec<f64> = batch
        .residual
        .chunks(6 * 64)
        .map(|wanted| (4.0 * log(&wanted[..4 * 64]) + 2.0 * log(&wanted[4 * 64..])) / 6.0)
        .collect();
    let expected = samples.iter().sum::<f64>() / samples.len() as f64;
    let got = loss.measure(&on_device, &nothing).unwrap();
    assert!(expected > 1.0 && (got - expected).abs() < 1e-3 * expected, "{got}, {expected}");
}

/// Draws one tuning, of the first step.
fn sample_tuning(recipe: &Recipe, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<f32> {
    StepTunings::new(recipe, 0, rng).draw(0, rng)
}

#[test]
fn absolute_errors_are_those_to_each_corner() {
    let at = Workplace::new();
    let text = format!(
        "{RECIPE}\n[[objectives]]\nloss = {{ kind = \"corner-targets\", error = \"absolute\" }}\n"
    );
    let recipe = Recipe::parse(&text).unwrap();
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    let batch = batch::make(&recipe, &Pictures { images, pairs: None }, 1);
    let n = batch.matrices.len();
    let planes = batch.residual.len() / n;
    assert_eq!(batch.corners.len(), 4);
    // Weighted as the mean is that is made of them.
    let mut expected = 0.0;
    for sample in 0..n {
        let at = |values: &Vec<f32>, i: usize| f64::from(values[sample * planes + i]);
        let mut sums = [0.0; 6];
        for i in 0..planes {
            let mut mean = 0.0;
            for (weights, wanted) in &batch.corners {
                let weight = f64::from(weights[sample]);
                mean += weight * at(wanted, i);
                sums[i / (planes / 6)] += weight * at(wanted, i).abs() / (planes / 6) as f64;
            }
            assert!((mean - at(&batch.residual, i)).abs() < 1e-6);
        }
        let scales = &batch.scales[sample * 6..][..6];
        let scaled = sums.iter().zip(scales).map(|(sum, scale)| sum * f64::from(*scale).sqrt());
        expected += scaled.sum::<f64>() / (6 * n) as f64;
    }
    let device = candle_core::Device::Cpu;
    let loss = MultiLoss::new(&recipe, None, &device).unwrap();
    let on_device = DeviceBatch::new(&batch, &recipe, &device).unwrap();
    let nothing = on_device.unfiltered(recipe.view()).unwrap();
    let got = loss.measure(&on_device, &nothing).unwrap();
    assert!(expected > 0.1 && (got - expected).abs() < 1e-4 * expected, "{got}, {expected}");
}

#[test]
fn tunings_come_from_every_part_and_leave_the_corners() {
    use rand::SeedableRng as _;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let usual = "kind = \"corner-boosted\", share = 0.5";
    let mut recipe = Recipe::parse(&RECIPE.replace(usual, "kind = \"stratified\"")).unwrap();
    recipe.batch.micro_batches = 5;
    let mut orders = std::collections::HashSet::new();
    for step in 0..50 {
        let tunings = StepTunings::new(&recipe, step, &mut rng);
        let drawn: Vec<_> = (0..5).map(|index| tunings.draw(index, &mut rng)).collect();
        let order = |j: usize| drawn.iter().map(|t| (5.0 * t[j]) as usize).collect::<Vec<_>>();
        for j in 0..2 {
            let mut parts = order(j);
            parts.sort_unstable();
            assert_eq!(parts, [0, 1, 2, 3, 4]);
        }
        orders.insert((order(0), order(1)));
    }
    assert!(orders.len() > 40, "{}", orders.len());

    let annealed = "kind = \"annealed\", from = 1.0, to = 0.0";
    let mut recipe = Recipe::parse(&RECIPE.replace(usual, annealed)).unwrap();
    recipe.steps = 101;
    for (step, expected) in [(0, 1000..1001), (50, 440..560), (100, 0..1), (200, 0..1)] {
        let tunings = StepTunings::new(&recipe, step, &mut rng);
        let is_corner = |_: &usize| tunings.draw(0, &mut rng).iter().all(|w| w.fract() == 0.0);
        let corners = (0..1000).filter(is_corner).count();
        assert!(expected.contains(&corners), "{step}: {corners}");
    }
    let refused = RECIPE.replace(usual, &annealed.replace("to = 0.0", "to = 1.5"));
    let error = format!("{:#}", Recipe::parse(&refused).unwrap_err());
    assert!(error.contains("to = 1.5, expected 0 to 1"), "{error}");
}

#[test]
fn random_tunings_fill_the_domain() {
    use rand::SeedableRng as _;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let boxed = Recipe::parse(RECIPE).unwrap();
    let simplex = Recipe::parse(&RECIPE.replace("\"box\"", "\"simplex\"")).unwrap();
    let shipped = |name: &str| {
        let path = format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        Recipe::read(path.as_ref()).unwrap()
    };
    let mut all = shipped("edsr-restore");
    all.batch.tunings = boxed.batch.tunings.clone();
    let (mut corners, mut nothing, mut sums) = (0, 0, [0.0; 2]);
    for _ in 0..2000 {
        let tuning = sample_tuning(&boxed, &mut rng);
        assert_ne!(tuning, [0.0, 0.0]);
        corners += usize::from(tuning.iter().all(|w| w.fract() == 0.0));
        // Other nets have to learn what is asked for there.
        nothing += usize::from(sample_tuning(&all, &mut rng) == [0.0, 0.0]);
        let tuning = sample_tuning(&simplex, &mut rng);
        assert!((tuning.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        simplex.tuning.tuning(&tuning.iter().map(|w| f64::from(*w)).collect::<Vec<_>>()).unwrap();
        sums[0] += tuning[0];
        sums[1] += tuning[1];
    }
    assert!((900..1100).contains(&corners), "{corners}");
    assert!((200..300).contains(&nothing), "{nothing}");
    for (name, passes) in [("broadcast", true), ("broadcast-hq", true), ("edsr-restore", false)] {
        assert_eq!(shipped(name).net.passes_at_zero(), passes, "{name}");
    }
    assert!((sums[0] - sums[1]).abs() < 100.0, "{sums:?}");
}

#[test]
fn beta_tunings_have_its_mean_and_variance() {
    use rand::SeedableRng as _;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let text = RECIPE
        .replace("kind = \"corner-boosted\", share = 0.5", "kind = \"beta\", a = 0.5, b = 1.5");
    for domain in ["box", "simplex"] {
        let recipe = Recipe::parse(&text.replace("\"box\"", &format!("{domain:?}"))).unwrap();
        let draws: Vec<f64> =
            (0..4000).map(|_| f64::from(sample_tuning(&recipe, &mut rng)[1])).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        let variance = draws.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 4000.0;
        // a / (a + b) and a b / ((a + b)² (a + b + 1)); both within four standard errors.
        assert!((mean - 0.25).abs() < 0.016, "{domain}: {mean}");
        assert!((variance - 0.0625).abs() < 0.006, "{domain}: {variance}");
    }
    let third = "{ name = \"x\", nick = \"X\", blurb = \"X\", minimum = 0.0, maximum = 1.0, \
                 default = 0.0, objective = \"x\" },\n]\n\n[[degr";
    let three = text.replace("\"box\"", "\"simplex\"").replacen("]\n\n[[degr", third, 1);
    let error = format!("{:#}", Recipe::parse(&three).unwrap_err());
    assert!(error.contains("batch.tunings"), "{error}");
}

/// Writes a pair of clips of two grey frames: clean ones of 50 and 100, degraded ones of 60 and 110.
fn write_pair(at: &Workplace, name: &str) {
    for (kind, offset) in [("clean", 0), ("degraded", 10)] {
        let mut file = b"YUV4MPEG2 W32 H20 F25:1 C420jpeg\n".to_vec();
        for luma in [50, 100] {
            file.extend(b"FRAME\n");
            file.extend([luma + offset; 32 * 20]);
            file.extend([128; 2 * 16 * 10]);
        }
        std::fs::write(at.path(&format!("{name}.{kind}.y4m")), file).unwrap();
    }
}

#[test]
fn recorded_degradations_come_from_pairs_of_clips() {
    let at = Workplace::new();
    std::fs::create_dir(at.path("pairs")).unwrap();
    write_pair(&at, "pairs/one");
    let text = RECIPE
        .replace("{ kind = \"blur\", sigma = [0.0, 2.0] }", "{ kind = \"recorded\" }")
        .replace("[[\"denoise\"], [\"denoise\", \"deblur\"]]", "[[\"denoise\"], [\"deblur\"]]");
    let recipe = Recipe::parse(&text).unwrap();
    let images = ImageFolder::load(&[at.path("data")], 16, Keep::Everything).unwrap();
    let pairs = Some(PairFolder::load(&[at.path("pairs")], 16, u64::MAX).unwrap());
    let batch = batch::make(&recipe, &Pictures { images, pairs }, 1);
    // Every second sample is a flat frame of the pair: its luma is 10 codes of 255 too bright, and
    // the target takes back the part that ω asks for.
    let each = 6 * 8 * 8;
    for (n, (input, residual)) in
        batch.input.chunks(each).zip(batch.residual.chunks(each)).enumerate().skip(1).step_by(2)
    {
        let deblur = batch.tunings.chunks(2).nth(n / 2).unwrap()[1];
        let luma = &input[..each / 6 * 4];
        assert!(luma.iter().all(|v| (v - luma[0]).abs() < 1.0 / 255.0), "sample {n}");
        let taken = -255.0 * residual[0] / 10.0;
        assert!((taken - deblur).abs() < 0.15, "sample {n}: {taken}, asked for {deblur}");
    }

    std::fs::write(at.path("recorded.toml"), text).unwrap();
    let line = "train recorded.toml --data data --run a";
    assert!(at.fail(line).contains("--pairs"));
    assert!(at.fail(&format!("{line} --pairs data")).contains("data"));
    assert!(!at.path("a").exists());
    at.succeed(&format!("{line} --pairs pairs"));
    write_pair(&at, "pairs/two");
    let error = at.fail("train --resume --run a --data data --pairs pairs");
    assert!(error.contains("began with 1 pairs of clips, there are 2 now"), "{error}");
}

#[test]
fn photographs_that_do_not_fit_are_trained_on_in_pieces() {
    let at = Workplace::new();
    std::fs::create_dir(at.path("large")).unwrap();
    for seed in 0..3 {
        picture(400, 300, seed).save(at.path(&format!("large/{seed}.png"))).unwrap();
    }
    let train =
        "train tiny.toml --data large --steps 200 --save-every 20 --cache-size 100KiB --run";
    let whole = at.command(&format!("{train} a")).assert().success();
    let told = String::from_utf8(whole.get_output().stderr.clone()).unwrap();
    assert!(told.contains("of all pixels, as there is room for 100.0 KiB: --cache-size"), "{told}");
    at.kill_run("b", &format!("{train} b"));
    let resumed = at.command("train --resume --run b").assert().success();
    let told = String::from_utf8(resumed.get_output().stderr.clone()).unwrap();
    assert!(told.contains("room for 100.0 KiB"), "{told}");
    assert!(at.read("a/checkpoint.safetensors") == at.read("b/checkpoint.safetensors"));
    let error = at.fail("train tiny.toml --data large --cache-size 1KiB --run c");
    assert!(error.contains("3 images need 5.1 KiB at least, for one crop of 24x24"), "{error}");
    assert!(!at.path("c").exists());
}

#[test]
fn a_checkpoint_says_what_it_was_made_from() {
    let at = Workplace::new();
    std::fs::create_dir(at.path("other")).unwrap();
    picture(40, 40, 9).save(at.path("other/x.png")).unwrap();
    let description = "name = \"Own squares\"\nlicence = \"CC0 1.0\"\n";
    std::fs::write(at.path("other/dataset.toml"), description).unwrap();
    at.succeed("train tiny.toml --data data other --run a");
    let read = |name: &str| Checkpoint::read(&at.path(name)).unwrap();
    let first = read("a/checkpoint.safetensors");
    let from = &first.metadata.provenance;
    let sets: Vec<_> =
        from.data.iter().map(|d| (d.name.as_str(), d.licence.as_str(), d.count)).collect();
    assert_eq!(
        sets,
        [("data", "licence not stated", Some(3)), ("Own squares", "CC0 1.0", Some(1))]
    );
    assert!(from.data[0].hash != from.data[1].hash);
    assert_eq!(from.degradations.len(), 2);
    assert_eq!(from.degradations[0]["parameter"], "deblur");
    assert_eq!(from.degradations[1]["degradation"]["kind"], "noise");
    assert_eq!(from.parent, None);

    at.succeed("train tiny.toml --data data --from a/checkpoint.safetensors --run b");
    let second = read("b/checkpoint.safetensors");
    assert_eq!(second.metadata.provenance.parent, Some(first.weights_hash()));
    assert_eq!(second.metadata.provenance.data.len(), 2);
    // The same pictures under another name are the same data.
    std::fs::rename(at.path("data"), at.path("renamed")).unwrap();
    at.succeed("train tiny.toml --data renamed --from a/checkpoint.safetensors --run third");
    let third = read("third/checkpoint.safetensors").metadata.provenance;
    let names: Vec<_> = third.data.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, ["renamed", "Own squares"]);
    std::fs::rename(at.path("renamed"), at.path("data")).unwrap();
    let told = at.succeed("inspect b/checkpoint.safetensors");
    assert!(told.contains("Own squares (CC0 1.0), 1 read"), "{told}");
    assert!(told.contains(&second.weights_hash()) && told.contains(&first.weights_hash()));

    for text in
        ["name = \"x\"", "name = \"\"\nlicence = \"y\"", "name = \"a\\u001b[2J\"\nlicence = \"y\""]
    {
        std::fs::write(at.path("other/dataset.toml"), text).unwrap();
        let error = at.fail("train tiny.toml --data other --run c");
        assert!(error.contains("other/dataset.toml"), "{error}");
    }
    let claims = format!("{RECIPE}\n[[data]]\nname = \"x\"\nlicence = \"y\"\n");
    std::fs::write(at.path("claims.toml"), claims).unwrap();
    let error = at.fail("train claims.toml --data data --run c");
    assert!(error.contains("unknown field `data`"), "{error}");
}
