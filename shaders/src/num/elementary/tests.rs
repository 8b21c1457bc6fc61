//! Accuracy against `f64`, and every special value.

use super::*;
use proptest::prelude::*;

/// How far `got` is from `truth`, in units of the last place that a correctly rounded `f32` has there.
fn ulps(got: f32, truth: f64) -> f64 {
    if truth.is_nan() || got.is_nan() {
        return if truth.is_nan() && got.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let rounded = truth as f32;
    if rounded.is_infinite() || got.is_infinite() {
        return if rounded == got { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((rounded.to_bits() >> 23) & 0xff).max(1) as i32;
    (f64::from(got) - truth).abs() / 2f64.powi(exponent - 150)
}

/// Walks `count` bit patterns spread evenly over `from..=to` and finds the worst error.
fn worst(from: f32, to: f32, f: fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> (f64, f32) {
    let (from, to) = (super::super::order_key(from), super::super::order_key(to));
    let count = 200_000i64;
    let mut found = (0.0, 0.0);
    for i in 0..=count {
        let key = i64::from(from) + (i64::from(to) - i64::from(from)) * i / count;
        let x = super::super::float::from_order_key(key as i32);
        let error = ulps(f(x), truth(f64::from(x)));
        if error > found.0 {
            found = (error, x);
        }
    }
    found
}

#[track_caller]
fn check(name: &str, ulps_max: f64, found: (f64, f32)) {
    assert!(
        found.0 <= ulps_max,
        "{name} is off by {} ulp at {:e}",
        found.0,
        found.1
    );
}

/// `erf` in `f64`, by its series to 3 and its continued fraction beyond.
fn erf_f64(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > sum.abs() * 1e-18 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a > 30.0 {
        1.0
    } else {
        let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    y.copysign(x)
}

#[test]
fn exp_is_within_one_ulp_subnormals_included() {
    check("exp", 1.0, worst(-104.0, -1e-10, exp, f64::exp));
    check("exp", 1.0, worst(1e-10, 89.0, exp, f64::exp));
    check("exp near zero", 1.0, worst(-1e-3, 1e-3, exp, f64::exp));
}

#[test]
fn log_is_within_one_ulp() {
    check("log", 1.0, worst(f32::from_bits(1), f32::MAX, log, f64::ln));
    check("log near one", 1.0, worst(0.7, 1.5, log, f64::ln));
    check("log1p", 2.0, worst(-0.99, 1e30, log1p, f64::ln_1p));
}

#[test]
fn sigmoid_and_softplus_keep_small_results() {
    let sigmoid_f64 = |x: f64| {
        if x < 0.0 {
            x.exp() / (1.0 + x.exp())
        } else {
            1.0 / (1.0 + (-x).exp())
        }
    };
    check("sigmoid", 2.5, worst(-103.0, 90.0, sigmoid, sigmoid_f64));
    check("sigmoid", 2.5, worst(-10.0, -0.1, sigmoid, sigmoid_f64));
    check(
        "softplus",
        3.0,
        worst(-90.0, 90.0, softplus, |x| {
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        }),
    );
}

#[test]
fn tanh_is_within_two_ulp() {
    check("tanh", 2.0, worst(-12.0, 12.0, tanh, f64::tanh));
    check("tanh", 2.0, worst(0.1, 10.0, tanh, f64::tanh));
}

#[test]
fn erf_is_within_two_ulp() {
    check("erf", 2.0, worst(-5.0, 5.0, erf, erf_f64));
    check("erf", 2.0, worst(0.05, 4.5, erf, erf_f64));
}

#[test]
fn sin_and_cos_are_close_for_any_angle() {
    check("sin", 2.5, worst(1e-30, 100.0, sin, f64::sin));
    check("cos", 2.5, worst(1e-30, 100.0, cos, f64::cos));
    check("sin of much", 2.5, worst(100.0, f32::MAX, sin, f64::sin));
    check("cos of much", 2.5, worst(100.0, f32::MAX, cos, f64::cos));
    // The f32 that comes closest to a multiple of pi/2.
    let close = f32::from_bits(0x6f79_be45);
    assert!(
        ulps(cos(close), f64::from(close).cos()) <= 2.0
            || ulps(sin(close), f64::from(close).sin()) <= 2.0
    );
}

#[test]
fn special_values_are_what_ieee_says() {
    let (inf, nan) = (f32::INFINITY, f32::from_bits(0xff80_0001));
    let same =
        |got: f32, expect: f32| assert_eq!(got.to_bits(), expect.to_bits(), "{got} for {expect}");
    for f in [exp, log, log1p, sigmoid, softplus, tanh, erf, sin, cos] {
        same(super::super::canonical(f(nan)), NAN);
    }
    same(exp(inf), inf);
    same(exp(-inf), 0.0);
    same(exp(0.0), 1.0);
    same(exp(-0.0), 1.0);
    same(log(0.0), -inf);
    same(log(-0.0), -inf);
    same(log(-1.0), NAN);
    same(log(inf), inf);
    same(log(1.0), 0.0);
    same(log1p(-0.0), -0.0);
    same(log1p(-1.0), -inf);
    same(sigmoid(inf), 1.0);
    same(sigmoid(-inf), 0.0);
    same(sigmoid(0.0), 0.5);
    same(softplus(inf), inf);
    same(softplus(-inf), 0.0);
    for f in [tanh, erf] {
        same(f(inf), 1.0);
        same(f(-inf), -1.0);
        same(f(-0.0), -0.0);
        same(f(f32::from_bits(1)), f32::from_bits(1));
    }
    same(sin(-0.0), -0.0);
    same(cos(-0.0), 1.0);
    same(sin(inf), NAN);
    same(cos(-inf), NAN);
}

#[test]
fn pow_has_the_special_values_of_ieee() {
    let inf = f32::INFINITY;
    let cases = [
        (0.0, 0.0),
        (NAN, 0.0),
        (1.0, NAN),
        (1.0, inf),
        (-1.0, inf),
        (-1.0, -inf),
        (0.5, inf),
        (2.0, inf),
        (0.5, -inf),
        (2.0, -inf),
        (0.0, 3.0),
        (-0.0, 3.0),
        (-0.0, 2.0),
        (0.0, -3.0),
        (-0.0, -3.0),
        (-0.0, -2.0),
        (inf, 2.0),
        (-inf, 3.0),
        (-inf, -3.0),
        (-inf, 2.5),
        (inf, -0.1),
        (-2.0, 3.0),
        (-2.0, 0.5),
        (-8.0, 1.0 / 3.0),
        (-2.0, 101.0),
        (-2.0, 33_554_432.0),
        (0.9, 1e30),
        (1.1, 1e30),
        (1.1, -1e30),
        (1e-30, 1e-30),
        (-1.5, 1e30),
        (0.25, 0.5),
        // Not an odd integer, though its integer part is odd: found by the GPU's test.
        (-0.0, 1.000_000_1),
        (f32::NEG_INFINITY, 41.8),
    ];
    for (x, y) in cases {
        let expect = f64::from(x).powf(f64::from(y)) as f32;
        let got = pow(x, y);
        assert!(
            got.to_bits() == expect.to_bits() || (got.is_nan() && expect.is_nan()),
            "pow({x}, {y}) = {got}, not {expect}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn pow_is_within_two_ulp(x in 1e-37f32..1e37, log_result in -87f32..88.0) {
        let y = log_result / x.ln();
        prop_assume!(y.is_finite());
        let truth = f64::from(x).powf(f64::from(y));
        let error = ulps(pow(x, y), truth);
        prop_assert!(error <= 2.0, "pow({x:e}, {y:e}) is off by {error} ulp");
    }

    #[test]
    fn pow_by_small_integers_is_close(x in -50f32..50.0, y in -16i32..=16) {
        let truth = f64::from(x).powi(y);
        let error = ulps(pow(x, y as f32), truth);
        prop_assert!(error <= 17.0, "pow({x:e}, {y}) is off by {error} ulp");
    }
}
