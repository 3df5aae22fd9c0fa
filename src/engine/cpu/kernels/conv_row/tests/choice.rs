//! Which kernel runs a shape, in which blocks.

use super::*;

#[test]
fn blocks_cover_the_channels_in_order() {
    let of = |c_out, lanes| blocks(c_out, lanes).collect::<Vec<_>>();
    assert_eq!(of(0, 8), []);
    assert_eq!(of(6, 4), [(0, 8)]);
    assert_eq!(of(6, 8), [(0, 8)]);
    assert_eq!(of(16, 16), [(0, 16)]);
    assert_eq!(of(24, 16), [(0, 32)]);
    assert_eq!(of(40, 16), [(0, 32), (32, 16)]);
    for lanes in [4, 8, 16] {
        for c_out in 1..200 {
            let mut next = 0;
            for (first, channels) in of(c_out, lanes) {
                assert_eq!(first, next);
                next = first + channels;
                // Two vectors while there are channels for the second.
                let left = c_out - first;
                assert_eq!(channels, if left > lanes { 2 * lanes } else { lanes });
            }
            assert_eq!(next, c_out.next_multiple_of(lanes));
        }
    }
}

fn check_lengths_of_blocks<X, W>(kernels: &[RowKernel<X, W>]) {
    for kernel in kernels {
        assert_eq!(kernel.blocks.iter().min(), Some(&kernel.pixels), "{}", kernel.name);
        for pixels in kernel.pixels..200 {
            let computed = |&block: &usize| pixels.div_ceil(block) * block;
            let fits = kernel.blocks.iter().filter(|&&block| block <= pixels);
            let block = kernel.block(pixels);
            assert!(kernel.blocks.contains(&block) && block <= pixels);
            assert_eq!(Some(computed(&block)), fits.map(computed).min(), "{}", kernel.name);
        }
    }
}

#[test]
fn rows_are_cut_into_the_blocks_that_waste_least() {
    check_lengths_of_blocks(&f32_kernels(Level::Avx512Vnni));
    check_lengths_of_blocks(&i16_kernels(Level::Avx512Vnni));
    check_lengths_of_blocks(&u8_kernels(Level::Avx512Vnni));
}

fn shape(run: usize, c_out: usize) -> RowShape {
    RowShape { segments: 3, run, pixel: 8, c_out }
}

fn check_choice<X, W>(kernels: fn(Level) -> Vec<RowKernel<X, W>>) {
    for level in Level::ALL {
        let kernels = kernels(level);
        let Some(highest) = kernels.iter().map(RowKernel::level).max() else { continue };
        assert!(highest <= level);
        assert!(kernels.is_sorted_by_key(|kernel| std::cmp::Reverse(kernel.level)));
        for run in 1..40 {
            for c_out in 1..80usize {
                let fits =
                    |kernel: &RowKernel<X, W>| kernel.level == highest && run % kernel.group == 0;
                let products =
                    |kernel: &RowKernel<X, W>| c_out.div_ceil(kernel.lanes) * run / kernel.group;
                let fewest = kernels.iter().filter(|kernel| fits(kernel)).map(products).min();
                let chosen = choose(&kernels, &shape(run, c_out));
                assert!(chosen.as_ref().is_none_or(fits), "{run} × {c_out}");
                assert_eq!(chosen.as_ref().map(products), fewest, "{run} × {c_out}");
            }
        }
    }
}

#[test]
fn the_highest_level_with_the_fewest_products_is_chosen() {
    check_choice(f32_kernels);
    check_choice(i16_kernels);
    check_choice(u8_kernels);
    assert!(choose::<f32, f32>(&[], &shape(8, 8)).is_none());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn few_channels_take_half_vectors() {
    for level in [Level::Avx512, Level::Avx512Vnni] {
        if !level.is_available() {
            println!("not on this CPU: {}", level.name());
            continue;
        }
        let (floats, words) = (f32_kernels(level), i16_kernels(level));
        for c_out in 6..=8 {
            let lanes = |run| choose(&floats, &shape(run, c_out)).unwrap().lanes;
            assert_eq!((lanes(6), lanes(8), lanes(7)), (8, 8, 16));
            let chosen = choose(&words, &shape(8, c_out)).unwrap();
            assert_eq!((chosen.lanes, chosen.level), (8, level));
            let chosen = choose(&words, &shape(6, c_out)).unwrap();
            assert_eq!((chosen.lanes, chosen.level), (16, level));
        }
        // Of equals the longer vector.
        assert_eq!(choose(&floats, &shape(8, 16)).unwrap().lanes, 16);
        assert_eq!(choose(&words, &shape(8, 16)).unwrap().lanes, 16);
        assert_eq!(choose(&words, &shape(8, 24)).unwrap().lanes, 8);
        assert!(choose(&words, &shape(7, 8)).is_none());
    }
}

fn check_peak<X, W>(kernels: &[RowKernel<X, W>]) {
    for kernel in kernels {
        let operations = 2 * 5 * kernel.blocks[0] * 2 * kernel.lanes * kernel.group;
        assert_eq!(kernel.peak(5).unwrap_or(operations), operations, "{}", kernel.name);
    }
}

#[test]
fn peak_counts_operations() {
    check_peak(&all(f32_kernels));
    check_peak(&all(i16_kernels));
    check_peak(&all(u8_kernels));
}
