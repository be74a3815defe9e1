//! The same promises for modules that nobody thought of.

mod rewrite_support;

use lindshim::rewrite::{GUEST_FEATURES, grate, rewrite};
use rewrite_support::guest::{Both, Outcome};
use rewrite_support::oracle::{assert_faithful, assert_faithful_grate};
use rewrite_support::smith::{Kind, imports_a_memory_twice, module};
use rewrite_support::{engine, rewritten};
use wasmparser::Validator;

/// How many modules are generated.
const MODULES: u64 = 2000;

#[test]
fn generated_modules_behave_the_same_both_ways() {
    let engine = engine();
    let (mut run, mut returned, mut trapped, mut stood_in) = (0, 0, 0, [0; 2]);
    for seed in 0..MODULES {
        println!("seed {seed}");
        let Some(original) = module(seed, Kind::Any) else {
            continue;
        };
        if let Err(error) = Validator::new_with_features(GUEST_FEATURES).validate_all(&original) {
            panic!("the test made a bad module: {error}");
        }
        if rewrite(&original, GUEST_FEATURES)
            .expect("a valid module")
            .plan
            .is_none()
        {
            continue;
        }
        if imports_a_memory_twice(&original) {
            continue;
        }
        let (bytes, plan) = rewritten(&original);
        assert_faithful(&original, &bytes, &plan, GUEST_FEATURES);
        run += 1;
        let mut both = Both::new(&engine, &original);
        for name in both.functions() {
            match both.call_if_stack_lasts(&name) {
                Some(Outcome::Returned(_)) => returned += 1,
                Some(_) => trapped += 1,
                None => break,
            }
        }
        let [all, bad] = both.stood_in();
        stood_in = [stood_in[0] + all, stood_in[1] + bad];
        both.finish();
    }
    println!(
        "{run} modules ran; {returned} calls returned, {trapped} trapped; stood in for {stood_in:?}"
    );
    // Were the modules not what they should be, the test would pass without having tested anything.
    assert!(returned > 500 && trapped > 500, "{returned} and {trapped}");
    assert!(stood_in[0] > 1000 && stood_in[1] > 50, "{stood_in:?}");
}

#[test]
fn generated_grates_behave_as_the_module_they_were() {
    let engine = engine();
    let (mut run, mut failed, mut returned, mut trapped, mut data) = (0, 0, 0, 0, 0);
    for seed in 0..MODULES {
        println!("seed {seed}");
        let Some(original) = module(seed, Kind::Grate) else {
            continue;
        };
        // An imported memory that is not shared.
        let Ok(rewritten) = grate(&original, GUEST_FEATURES) else {
            continue;
        };
        data += assert_faithful_grate(&original, &rewritten, GUEST_FEATURES);
        run += 1;
        let mut both = Both::grate(&engine, &original);
        if *both.started() != Outcome::Returned(Vec::new()) {
            failed += 1;
        }
        for name in both.functions() {
            match both.call_if_stack_lasts(&name) {
                Some(Outcome::Returned(_)) => returned += 1,
                Some(_) => trapped += 1,
                None => break,
            }
        }
        both.finish();
    }
    println!(
        "{run} grates ran, {failed} did not start; {returned} calls returned, {trapped} trapped; {data} active segments"
    );
    // Were the modules not what they should be, the test would pass without having tested anything.
    assert!(
        run > 500 && failed > 20 && data > 500,
        "{run}, {failed} and {data}"
    );
    assert!(returned > 500 && trapped > 100, "{returned} and {trapped}");
}
