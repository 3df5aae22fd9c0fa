//! What is too short is refused before anything is computed.

use super::*;

#[track_caller]
fn assert_refused(kernel: &str, what: &str, call: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{kernel}: {what}");
}

/// One value too few, wherever there can be.
fn check_refusals<X: Number, W: Number>(kernels: &[RowKernel<X, W>]) {
    for &kernel in kernels {
        let name = kernel.name;
        let shape = RowShape { segments: 2, run: 8, pixel: 8, c_out: 6 };
        let (pixels, channels) = (kernel.pixels + 1, 6usize.next_multiple_of(kernel.lanes));
        let (reach, values) = (8 * pixels, 6 * pixels);
        assert_eq!(shape.reach(pixels), reach);
        let weights = [W::default(); 96];
        let whole = || ConvRow::zeroed(kernel, shape, 1.0);
        let (x, zero) = (vec![X::default(); reach], vec![0.0; channels]);
        let segments = [&*x, &x];

        let mut floats = vec![0.0; values];
        let add = floats.clone();
        let mut run = |row: &ConvRow<X, W>, segments: &[&[X]], pixels, to: usize, add| {
            row.run(segments, pixels, RowOut::F32 { to: &mut floats[..to], add });
        };
        run(&whole(), &segments, pixels, values, [None; 2]);
        run(&whole(), &segments, pixels, values, [Some(&*add); 2]);
        let mut refuse = |what, row: &ConvRow<X, W>, segments: &[&[X]], pixels, to, add| {
            assert_refused(name, what, || run(row, segments, pixels, to, add));
        };
        let row = whole();
        refuse("segment 0", &row, &[&x[1..], &x], pixels, values, [None; 2]);
        refuse("segment 1", &row, &[&x, &x[1..]], pixels, values, [None; 2]);
        refuse("a segment missing", &row, &[&x], pixels, values, [None; 2]);
        refuse("a segment too many", &row, &[&x, &x, &x], pixels, values, [None; 2]);
        refuse("a pixel too many", &row, &segments, pixels + 1, values + 6, [None; 2]);
        refuse("too few pixels", &row, &segments, kernel.pixels - 1, values, [None; 2]);
        refuse("no pixels", &row, &segments, 0, values, [None; 2]);
        refuse("output", &row, &segments, pixels, values - 1, [None; 2]);
        let short = Some(&add[1..]);
        refuse("addend", &row, &segments, pixels, values, [short, None]);
        refuse("second addend", &row, &segments, pixels, values, [Some(&*add), short]);
        let less = ConvRow { scale: Aligned::zeroed(channels - 1), ..whole() };
        refuse("scale", &less, &segments, pixels, values, [None; 2]);
        let less = ConvRow { bias: Aligned::zeroed(channels - 1), ..whole() };
        refuse("bias", &less, &segments, pixels, values, [None; 2]);
        let less = ConvRow { slope: Aligned::zeroed(channels - 1), ..whole() };
        refuse("slope", &less, &segments, pixels, values, [None; 2]);
        let less = ConvRow { weights: Aligned::zeroed(16 * channels - 1), ..whole() };
        refuse("weights", &less, &segments, pixels, values, [None; 2]);

        let mut pairs = [(); 3].map(|()| vec![0.0; 2 * pixels]);
        let mut run = |row: &ConvRow<X, W>, lens: [usize; 3]| {
            let [first, second, third] = &mut pairs;
            let rows = [&mut first[..lens[0]], &mut second[..lens[1]], &mut third[..lens[2]]];
            row.run(&segments, pixels, RowOut::Pairs(rows));
        };
        let lens = [2 * pixels; 3];
        run(&row, lens);
        for which in 0..3 {
            let mut lens = lens;
            lens[which] -= 1;
            assert_refused(name, "pairs", || run(&row, lens));
        }
        let five = ConvRow::zeroed(kernel, RowShape { c_out: 5, ..shape }, 1.0);
        assert_refused(name, "pairs of five channels", || run(&five, lens));

        let mut words = vec![0i16; values];
        let mut run = |to: usize, zero| {
            let to = &mut words[..to];
            row.run(&segments, pixels, RowOut::I16 { to, zero, low: 0, high: 1, add: [None; 2] });
        };
        run(values, &zero);
        assert_refused(name, "words", || run(values - 1, &zero));
        assert_refused(name, "zero points of words", || run(values, &zero[1..]));

        let mut bytes = vec![0u8; values];
        let mut run = |to: usize, zero| {
            row.run(&segments, pixels, RowOut::U8 { to: &mut bytes[..to], zero, add: [None; 2] });
        };
        run(values, &zero);
        assert_refused(name, "bytes", || run(values - 1, &zero));
        assert_refused(name, "zero points of bytes", || run(values, &zero[1..]));

        let set = |weights: &[W]| whole().set_weights(weights);
        set(&weights);
        assert_refused(name, "a weight missing", || set(&weights[1..]));
        let many = RowShape { segments: MAX_SEGMENTS + 1, ..shape };
        assert_refused(name, "too many segments", || drop(ConvRow::zeroed(kernel, many, 1.0)));
        let odd = RowShape { run: 7, ..shape };
        let zeroed = || drop(ConvRow::zeroed(kernel, odd, 1.0));
        match kernel.group {
            1 => zeroed(),
            _ => assert_refused(name, "half a group", zeroed),
        }
    }
}

#[test]
fn short_slices_are_refused() {
    check_refusals(&all(f32_kernels));
    check_refusals(&all(i16_kernels));
    check_refusals(&all(u8_kernels));
}
