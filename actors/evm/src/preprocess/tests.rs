use super::*;
use alloy_sol_types::SolError;
use proptest::prelude::*;

fn n(value: i128, decimals: i128) -> Number {
    Number { value, decimals }
}

fn whole(values: &[i128]) -> Vec<Number> {
    values.iter().map(|value| Number::whole(*value)).collect()
}

fn encode(function: [u8; 4], arrays: &[&[Number]]) -> Vec<u8> {
    let to_sol = |array: &[Number]| -> Vec<solidity::Number> {
        array.iter().map(|number| (*number).into()).collect()
    };
    let mut calldata = function.to_vec();
    match arrays {
        [one] => calldata.extend((to_sol(one),).abi_encode_params()),
        [one, two] => calldata.extend((to_sol(one), to_sol(two)).abi_encode_params()),
        _ => panic!("one array or two"),
    }
    calldata
}

fn back(number: solidity::Number) -> Number {
    n(number.value, number.decimals)
}

fn one(function: [u8; 4], arrays: &[&[Number]]) -> Result<Number, Revert> {
    let done = run(&encode(function, arrays)).map_err(|error| error.why)?;
    Ok(back(
        solidity::Number::abi_decode(&done.output).expect("a Number"),
    ))
}

fn many(function: [u8; 4], array: &[Number]) -> Result<Vec<Number>, Revert> {
    let done = run(&encode(function, &[array])).map_err(|error| error.why)?;
    let numbers = Vec::<solidity::Number>::abi_decode(&done.output).expect("a Number[]");
    Ok(numbers.into_iter().map(back).collect())
}

const MIN: [u8; 4] = solidity::minCall::SELECTOR;
const MAX: [u8; 4] = solidity::maxCall::SELECTOR;
const MEAN: [u8; 4] = solidity::meanCall::SELECTOR;
const STD_DEV: [u8; 4] = solidity::stdDevCall::SELECTOR;
const VARIANCE: [u8; 4] = solidity::varianceCall::SELECTOR;
const MEDIAN: [u8; 4] = solidity::medianCall::SELECTOR;
const STANDARDIZE: [u8; 4] = solidity::standardizeCall::SELECTOR;
const NORMALIZE: [u8; 4] = solidity::normalizeCall::SELECTOR;
const CORRELATION: [u8; 4] = solidity::correlationCall::SELECTOR;

#[test]
fn each_function_gives_what_is_computed_by_hand() {
    let values = [n(25, 1), n(1, 0), n(4, 0), n(-5, 1)]; // 2.5, 1, 4, -0.5
    let check = |function, expect| assert_eq!(one(function, &[&values]), Ok(expect));
    check(MIN, n(-5, 1));
    check(MAX, n(4, 0));
    check(MEAN, n(175, 2));
    check(MEDIAN, n(175, 2));
    // Deviations 0.75, -0.75, 2.25, -2.25: squares 0.5625, 0.5625, 5.0625, 5.0625; mean 2.8125.
    check(VARIANCE, n(28_125, 4));
    // sqrt(2.8125) = 1.677050983124842272306...
    check(STD_DEV, n(1_677_050_983_124_842_272, 18));
    assert_eq!(
        many(NORMALIZE, &values),
        Ok(vec![
            n(666_666_666_666_666_667, 18),
            n(333_333_333_333_333_333, 18),
            n(1, 0),
            n(0, 0)
        ])
    );
    // 0.75 / sqrt(2.8125) = 0.4472135954999579392818..., thrice that is 1.3416407864998738178455...
    let (small, large) = (447_213_595_499_957_939, 1_341_640_786_499_873_818);
    assert_eq!(
        many(STANDARDIZE, &values),
        Ok(vec![
            n(small, 18),
            n(-small, 18),
            n(large, 18),
            n(-large, 18)
        ])
    );
    let line = [n(1, 0), n(-2, 0), n(4, 0), n(-5, 0)]; // 2x - 4
    assert_eq!(one(CORRELATION, &[&values, &line]), Ok(n(1, 0)));
}

#[test]
fn min_max_and_an_odd_median_are_an_input_as_it_was_given() {
    let values = [n(10, 1), n(1, 0), n(100, 2)];
    for function in [MIN, MAX, MEDIAN] {
        let expect = if function == MEDIAN {
            n(1, 0)
        } else {
            n(10, 1)
        };
        assert_eq!(one(function, &[&values]), Ok(expect));
    }
}

#[test]
fn halves_round_to_even() {
    // Half of 10^-18 and of 3 * 10^-18.
    assert_eq!(one(MEAN, &[&[n(1, 18), n(0, 0)]]), Ok(n(0, 0)));
    assert_eq!(one(MEAN, &[&[n(3, 18), n(0, 0)]]), Ok(n(2, 18)));
    assert_eq!(one(MEAN, &[&[n(-3, 18), n(0, 0)]]), Ok(n(-2, 18)));
    // The deviation of 0 and x is x / 2: a root that ends exactly half-way.
    assert_eq!(one(STD_DEV, &[&[n(1, 18), n(0, 0)]]), Ok(n(0, 0)));
    assert_eq!(one(STD_DEV, &[&[n(3, 18), n(0, 0)]]), Ok(n(2, 18)));
}

#[test]
fn what_is_not_defined_or_too_large_reverts_by_type() {
    let empty: &[Number] = &[];
    for function in [MIN, MAX, MEAN, STD_DEV, VARIANCE, MEDIAN] {
        assert_eq!(one(function, &[empty]), Err(Revert::Undefined));
    }
    assert_eq!(many(STANDARDIZE, empty), Ok(vec![]));
    assert_eq!(many(NORMALIZE, empty), Ok(vec![]));
    let flat = whole(&[7, 7]);
    assert_eq!(many(STANDARDIZE, &flat), Ok(whole(&[0, 0])));
    assert_eq!(many(NORMALIZE, &flat), Ok(whole(&[0, 0])));
    let slope = whole(&[1, 2]);
    for pair in [[&flat, &slope], [&slope, &flat]] {
        let pair: Vec<&[Number]> = pair.iter().map(|array| array.as_slice()).collect();
        assert_eq!(one(CORRELATION, &pair), Err(Revert::Undefined));
    }
    assert_eq!(
        one(CORRELATION, &[&slope, &whole(&[1, 2, 3])]),
        Err(Revert::Undefined)
    );
    for decimals in [DECIMALS_MAX + 1, -DECIMALS_MAX - 1, i128::MAX, i128::MIN] {
        assert_eq!(one(MIN, &[&[n(1, decimals)]]), Err(Revert::TooLarge));
    }
    // The extremes that are taken: min is an input, the mean of it does not fit.
    let huge = [n(i128::MAX, -DECIMALS_MAX), n(1, DECIMALS_MAX)];
    assert_eq!(one(MAX, &[&huge]), Ok(huge[0]));
    assert_eq!(one(MEAN, &[&huge]), Err(Revert::Overflow));
    assert_eq!(
        one(MEAN, &[&[Number::whole(i128::MIN)]]),
        Ok(n(i128::MIN, 0))
    );
    assert_eq!(
        one(VARIANCE, &[&whole(&[i128::MIN, i128::MAX])]),
        Err(Revert::Overflow)
    );
}

#[test]
fn gas_counts_elements_and_is_charged_on_reverts_too() {
    let calldata = encode(MEAN, &[&whole(&[1, 2, 3])]);
    let done = run(&calldata).expect("three numbers have a mean");
    assert_eq!(done.gas, GAS_BASE + 4 * GAS_PER_ELEMENT);
    assert_eq!(gas(&calldata), done.gas);
    let calldata = encode(STANDARDIZE, &[&whole(&[1, 2, 3])]);
    assert_eq!(gas(&calldata), GAS_BASE + 4 * GAS_PER_ELEMENT_EACH);
    let broken = run(&calldata[..calldata.len() - 1]).expect_err("cut");
    assert_eq!(broken.gas, gas(&calldata));
    assert_eq!(broken.why, Revert::BadRequest);
    assert_eq!(gas(&[]), GAS_BASE);
}

#[test]
fn reverts_decode_by_their_solidity_errors() {
    let data = run(&encode(MEAN, &[&[]])).expect_err("no mean").revert();
    assert_eq!(data[..], solidity::Undefined::SELECTOR);
}

/// Equal within the error that f64 itself makes on such sums.
fn close(exact: Number, float: f64, magnitude: f64) -> bool {
    let exact = exact.to_f64().expect("finite");
    (exact - float).abs() <= 1e-9 * magnitude.max(1.0)
}

fn numbers() -> impl Strategy<Value = Vec<Number>> {
    let number =
        (-1_000_000i128..1_000_000, 0i128..7).prop_map(|(value, decimals)| n(value, decimals));
    proptest::collection::vec(number, 1..40)
}

proptest! {
    #[test]
    fn results_agree_with_doubles(values in numbers()) {
        let floats: Vec<f64> = values.iter().map(|v| v.to_f64().expect("finite")).collect();
        let count = floats.len() as f64;
        let mean = floats.iter().sum::<f64>() / count;
        let variance = floats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let mut sorted = floats.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
        for (function, float, magnitude) in [
            (MIN, min, 1.0), (MAX, max, 1.0), (MEAN, mean, 1e6), (MEDIAN, median, 1.0),
            (VARIANCE, variance, 1e12), (STD_DEV, variance.sqrt(), 1e6),
        ] {
            let exact = one(function, &[&values]).expect("defined");
            prop_assert!(close(exact, float, magnitude), "{function:?}: {exact:?} against {float}");
        }
        for (exact, float) in many(NORMALIZE, &values).expect("defined").iter().zip(&floats) {
            let float = if max > min { (float - min) / (max - min) } else { 0.0 };
            prop_assert!(close(*exact, float, 1e3));
        }
    }

    #[test]
    fn standardized_values_have_mean_zero_and_deviation_one(values in numbers()) {
        let standard = many(STANDARDIZE, &values).expect("defined");
        let mean = one(MEAN, &[&standard]).expect("defined").to_f64().expect("finite");
        let deviation = one(STD_DEV, &[&standard]).expect("defined").to_f64().expect("finite");
        prop_assert!(mean.abs() < 1e-16);
        prop_assert!((deviation - 1.0).abs() < 1e-15 || standard.iter().all(|x| x.value == 0));
    }

    #[test]
    fn correlation_lies_within_one_and_is_symmetric(pairs in proptest::collection::vec((any::<i64>(), any::<i64>(), 0i128..20), 2..20)) {
        let xs: Vec<Number> = pairs.iter().map(|(x, _, d)| n(i128::from(*x), *d)).collect();
        let ys: Vec<Number> = pairs.iter().map(|(_, y, d)| n(i128::from(*y), 19 - d)).collect();
        if let Ok(r) = one(CORRELATION, &[&xs, &ys]) {
            prop_assert!(r.to_f64().expect("finite").abs() <= 1.0);
            prop_assert_eq!(one(CORRELATION, &[&ys, &xs]), Ok(r));
            let minus: Vec<Number> = ys.iter().map(|y| n(-y.value, y.decimals)).collect();
            prop_assert_eq!(one(CORRELATION, &[&xs, &minus]), Ok(n(-r.value, r.decimals)));
        }
    }

    #[test]
    fn no_calldata_panic(selector in 0usize..9, mut words in proptest::collection::vec(any::<[u8; 32]>(), 0..12), small: bool) {
        if small {
            for word in &mut words {
                let last = word[31] % 0xe0;
                *word = [0; 32];
                word[31] = last;
            }
        }
        let selector = [MIN, MAX, MEAN, STD_DEV, VARIANCE, MEDIAN, STANDARDIZE, NORMALIZE, CORRELATION][selector];
        let calldata: Vec<u8> = selector.into_iter().chain(words.into_iter().flatten()).collect();
        let expect = gas(&calldata);
        let charged = run(&calldata).map_or_else(|error| error.gas, |done| done.gas);
        prop_assert_eq!(charged, expect);
    }
}
