//! Recipes whose kernels are not free: rivals of tunable layers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{RECIPE, Workplace};
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::trainer::trained_numbers;

const NET: &str = r#"
net = "plain"
colour = "luma"
scale = 1
residual = true
phi = { mode = "multilinear", expand = 1 }
layers = [
  { name = "a", kernel = 3, channels = 4, activation = { leaky-relu = 0.1 } },
  { name = "b", kernel = 3, channels = 4, activation = "none", add = [1] },
  { name = "c", kernel = 3, channels = 1, activation = "none" },
]
"#;

/// The recipe of the tests with another net, these tunings and this control.
fn recipe(tunings: &str, control: &str) -> String {
    let start = RECIPE.find("net = \"video\"").unwrap();
    let end = RECIPE.find("[tuning]").unwrap();
    let text = format!("{}{NET}\n[control]\n{control}\n{}", &RECIPE[..start], &RECIPE[end..]);
    text.replace(
        "kind = \"corner-boosted\", share = 0.5",
        &format!("kind = \"fixed\", values = {tunings}"),
    )
}

/// Kernel number `corner` of each layer.
fn kernels(checkpoint: &Checkpoint, corner: usize) -> Vec<Vec<f32>> {
    ["a.weight", "a.bias", "b.weight", "c.weight", "c.bias"]
        .map(|name| {
            let bank = &checkpoint.tensors[name];
            bank.chunks_exact(bank.len() / 4).nth(corner).unwrap().to_vec()
        })
        .into()
}

#[test]
fn a_difference_is_trained_upon_kernels_that_stay() {
    let at = Workplace::new();
    let first = recipe("[[0.0, 1.0]]", "difference = \"none\"");
    std::fs::write(at.path("first.toml"), first).unwrap();
    at.succeed("train first.toml --data data --run first");
    let first = Checkpoint::read(&at.path("first/checkpoint.safetensors")).unwrap();
    for corner in 0..4 {
        assert_eq!(kernels(&first, corner), kernels(&first, 0));
    }

    for difference in ["\"kernels\"", "\"gains\"", "\"scales\"", "{ low-rank = 2 }"] {
        let control = format!("difference = {difference}\nbase = [0.0, 1.0]\nfrozen = true");
        std::fs::write(at.path("second.toml"), recipe("[[1.0, 1.0]]", &control)).unwrap();
        let line = "train second.toml --from first/checkpoint.safetensors --data data --run";
        at.succeed(&format!("{line} second"));
        let second = Checkpoint::read(&at.path("second/checkpoint.safetensors")).unwrap();
        // Corners that no sample was at stay what they were; the base whatever happens.
        for (corner, stays) in [(0, true), (1, true), (2, true), (3, false)] {
            let same = kernels(&second, corner) == kernels(&first, 0);
            assert_eq!(same, stays, "{difference} {corner}");
        }
        // Killed and resumed, the same comes of it.
        at.kill_run("third", &format!("{line} third --save-every 1"));
        at.succeed("train --resume --run third");
        let third = Checkpoint::read(&at.path("third/checkpoint.safetensors")).unwrap();
        assert!(third.tensors == second.tensors, "{difference}");
        for run in ["second", "third"] {
            std::fs::remove_dir_all(at.path(run)).unwrap();
        }
    }
    let told = at.fail("train second.toml --data data --run x");
    assert!(told.contains("give --from"), "{told}");
    std::fs::write(
        at.path("wide.toml"),
        recipe("[[1.0, 1.0]]", "difference = \"kernels\"").replace("channels = 4", "channels = 5"),
    )
    .unwrap();
    let told = at.fail("train wide.toml --from first/checkpoint.safetensors --data data --run x");
    assert!(
        told.contains("a.weight") && told.contains("[4, 1, 3, 3], expected [5, 1, 3, 3]"),
        "{told}"
    );
    assert!(!at.path("x").exists());
}

#[test]
fn kernels_begin_alike_and_are_trained_by_themselves() {
    let at = Workplace::new();
    let control = "difference = \"kernels\"\nfrozen = true";
    std::fs::write(at.path("alike.toml"), recipe("[[1.0, 1.0], [0.0, 1.0]]", control)).unwrap();
    at.succeed("train alike.toml --data data --run one");
    let one = Checkpoint::read(&at.path("one/checkpoint.safetensors")).unwrap();
    // Corners that no sample was at are what all were.
    assert_eq!(kernels(&one, 0), kernels(&one, 1));
    let [first, second, third] = [0, 2, 3].map(|corner| kernels(&one, corner));
    assert!(first != second && first != third && second != third);
    assert!(first[0].iter().any(|w| w.abs() > 1e-2), "{:?}", first[0]);
    // Killed and resumed, the same comes of it.
    at.kill_run("two", "train alike.toml --data data --run two --save-every 1");
    at.succeed("train --resume --run two");
    let two = Checkpoint::read(&at.path("two/checkpoint.safetensors")).unwrap();
    assert!(one.tensors == two.tensors);
}

#[test]
fn all_is_trained_together_where_nothing_is_frozen() {
    let at = Workplace::new();
    let control = "difference = \"scales\"";
    std::fs::write(at.path("film.toml"), recipe("[[0.0, 1.0], [1.0, 1.0]]", control)).unwrap();
    at.succeed("train film.toml --data data --run film");
    let film = Checkpoint::read(&at.path("film/checkpoint.safetensors")).unwrap();
    assert_ne!(kernels(&film, 2), kernels(&film, 3));
    // What no sample was at has the kernel of all.
    assert_eq!(kernels(&film, 0), kernels(&film, 1));
    assert_ne!(kernels(&film, 0), kernels(&film, 2));
}

#[test]
fn kernels_that_all_corners_share_may_be_overparameterised() {
    let at = Workplace::new();
    let usual = recipe("[[0.0, 1.0], [1.0, 1.0]]", "difference = \"kernels\"");
    let wide = usual.replace("\n[net]", "\noverparameterise = { channels = 8 }\n[net]");
    let numbers = |text: &str| trained_numbers(&Recipe::parse(text).unwrap());
    // To 8 channels with kernels of 3×3, and back; of what is shared alone.
    let more = [(1, 4), (4, 4), (4, 1)].map(|(c_in, c_out)| 8 * 9 * c_in + c_out * 8);
    assert_eq!(numbers(&wide), numbers(&usual) + more.iter().sum::<usize>());
    std::fs::write(at.path("wide.toml"), &wide).unwrap();
    at.succeed("train wide.toml --data data --run first");
    let first = Checkpoint::read(&at.path("first/checkpoint.safetensors")).unwrap();
    assert_eq!(kernels(&first, 0), kernels(&first, 1));
    assert!(kernels(&first, 0) != kernels(&first, 2) && kernels(&first, 2) != kernels(&first, 3));
    // Where it starts from a checkpoint nothing is added to them.
    is_what_it_starts_from(&at, "wide.toml", "first/checkpoint.safetensors");
}

#[test]
fn a_run_with_differences_starts_as_the_checkpoint() {
    let at = Workplace::new();
    let free = recipe("[[0.0, 1.0], [1.0, 1.0]]", "").replace("[control]", "");
    std::fs::write(at.path("free.toml"), free).unwrap();
    at.succeed("train free.toml --data data --run free");
    for control in ["difference = \"kernels\"", "difference = \"kernels\"\nbase = [0.0, 1.0]"] {
        std::fs::write(at.path("next.toml"), recipe("[[0.0, 1.0]]", control)).unwrap();
        is_what_it_starts_from(&at, "next.toml", "free/checkpoint.safetensors");
        std::fs::remove_dir_all(at.path("next")).unwrap();
    }
    // What does with fewer numbers cannot, and says so.
    let gains = recipe("[[0.0, 1.0]]", "difference = \"gains\"");
    std::fs::write(at.path("next.toml"), gains).unwrap();
    let line = "train next.toml --from free/checkpoint.safetensors --data data --run next";
    let run = at.command(line).assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("the knobs start without effect"), "{told}");
}

/// After a step of no length.
fn is_what_it_starts_from(at: &Workplace, recipe: &str, from: &str) {
    let text = std::fs::read_to_string(at.path(recipe)).unwrap();
    let still = text
        .replace("learning_rate = 1e-3", "learning_rate = 1e-30")
        .replace("final_learning_rate = 1e-5", "final_learning_rate = 1e-30");
    std::fs::write(at.path("still.toml"), still).unwrap();
    at.succeed(&format!("train still.toml --from {from} --steps 1 --data data --run next"));
    let start = Checkpoint::read(&at.path(from)).unwrap();
    let next = Checkpoint::read(&at.path("next/checkpoint.safetensors")).unwrap();
    for corner in 0..4 {
        let (start, next) = (kernels(&start, corner).concat(), kernels(&next, corner).concat());
        for (a, b) in start.iter().zip(&next) {
            assert!((a - b).abs() < 1e-6, "corner {corner}: {a} {b}");
        }
    }
}

#[test]
fn tunings_that_are_not_of_the_domain_are_refused() {
    let refused = |tunings: &str| {
        format!("{:#}", Recipe::parse(&recipe(tunings, "difference = \"none\"")).unwrap_err())
    };
    assert!(refused("[]").contains("fixed: no tuning"));
    assert!(refused("[[0.5]]").contains("fixed: [0.5]"));
    assert!(refused("[[0.5, 1.5]]").contains("fixed: [0.5, 1.5]"));
}
