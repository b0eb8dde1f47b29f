//! `[[derived_attribute]]` and `[[named_aggregate]]`.

use fieldlog_projections::declared::{Formula, Function};

use super::{lines, parse};

const POWER: &str = "\
[[derived_attribute]]
name = \"power\"
formula = \"product\"
of = [\"voltage\", \"current\"]
";

const ENERGY: &str = "\
[[named_aggregate]]
name = \"energy\"
attributes = [\"energy*\", \"power\"]
function = \"increase\"
window_s = 3600
";

/// `with` follows a complete block.
#[track_caller]
fn check(block: &str, with: &str, expected: &[&str]) {
    let label =
        if block == POWER { "derived_attribute[0] \"power\"" } else { "named_aggregate[0] \"energy\"" };
    let expected: Vec<String> = expected.iter().map(|line| format!("{label} {line}")).collect();
    assert_eq!(lines(&format!("{block}{with}")), expected, "{with}");
}

/// `with` replaces a line.
#[track_caller]
fn check_line(block: &str, line: &str, with: &str, expected: &[&str]) {
    let label =
        if block == POWER { "derived_attribute[0] \"power\"" } else { "named_aggregate[0] \"energy\"" };
    let expected: Vec<String> = expected.iter().map(|line| format!("{label} {line}")).collect();
    let written = block.lines().find(|written| written.starts_with(line)).unwrap();
    assert_eq!(lines(&block.replace(written, with)), expected, "{with}");
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        lines("[[derived_attribute]]"),
        [
            "derived_attribute[0] name: it is missing; give the attribute a name, such as \"power\"",
            "derived_attribute[0] formula: it is missing; choose value, sum, difference, product or ratio",
        ]
    );
    assert_eq!(
        lines("[[named_aggregate]]"),
        [
            "named_aggregate[0] name: it is missing; give the aggregate a short name, such as \"energy-daily\"",
            "named_aggregate[0] attributes: it is missing; give the names of attributes, such as [\"energy*\"]",
            "named_aggregate[0] function: it is missing; choose count, min, max, mean, sum, last, increase or change",
            "named_aggregate[0] window_s: it is missing; give it 10 to 31536000 seconds",
        ]
    );
}

#[test]
fn formulas_have_their_number_of_attributes() {
    check_line(POWER, "formula", "formula = \"value\"", &["of: it lists 2; list 1 attribute"]);
    check_line(POWER, "of", "of = [\"a\"]", &["of: it lists 1; list 2 to 8 attributes"]);
    check_line(POWER, "of", "", &["of: it lists 0; list 2 to 8 attributes"]);
    let three = POWER.replace("product", "ratio").replace("of = [", "of = [\"a\", ");
    assert_eq!(lines(&three), ["derived_attribute[0] \"power\" of: it lists 3; list 2 attributes"]);
    check_line(POWER, "of", "of = [\"a\", \"\"]", &["of: a name in it is empty"]);
}

#[test]
fn what_cannot_be_computed_is_refused() {
    check(POWER, "scale = 0", &["scale: it is 0; it must not be"]);
    check(POWER, "above = 1\nbelow = 2", &["below: there is also above; remove one of the two"]);
    check(POWER, "above = \"1\"", &["above: it is text; it must be a number, finite"]);
    check_line(
        POWER,
        "formula",
        "formula = \"prodcut\"",
        &["formula: \"prodcut\" is unknown; it must be value, sum, difference, product or ratio; \
           did you mean product?"],
    );
    check(ENERGY, "scale = -1", &["scale: -1 is out of range; it must be greater than 0"]);
    check(ENERGY, "keep = 0", &["keep: 0 is out of range; it must be 1 to 100000 windows"]);
    check(ENERGY, "keeps = 1", &["keeps: unknown key; did you mean keep?"]);
    check_line(
        ENERGY,
        "attributes",
        "attributes = []",
        &["attributes: it is empty; give the names of attributes, such as [\"energy*\"]"],
    );
    check_line(
        ENERGY,
        "attributes",
        "attributes = [\"a**\"]",
        &["attributes[0]: \"a**\" is not a pattern; it must not be empty, nor have two `*` side by side"],
    );
    assert_eq!(
        lines(&POWER.replace("\"power\"", "\"pow*\"")),
        [
            "derived_attribute[0] \"pow*\" name: it contains `*`, which stands for any text in patterns; leave it out"
        ]
    );
}

#[test]
fn names_are_unique_and_nothing_is_derived_twice() {
    let again = "name: another block has it too; give each its own name";
    assert_eq!(lines(&POWER.repeat(2)), [format!("derived_attribute[1] \"power\" {again}")]);
    assert_eq!(lines(&ENERGY.repeat(2)), [format!("named_aggregate[1] \"energy\" {again}")]);
    let twice = POWER.replace("\"power\"", "\"double\"").replace("\"current\"", "\"power\"");
    assert_eq!(
        lines(&format!("{twice}{POWER}")),
        [
            "derived_attribute[0] \"double\" of: \"power\" is itself derived; name attributes that devices report"
        ]
    );
    let many: String = (0..65).map(|n| ENERGY.replace("\"energy\"", &format!("\"e{n}\""))).collect();
    assert_eq!(lines(&many), ["named_aggregate: there are 65; at most 64 can be declared; remove some"]);
}

#[test]
fn declarations_are_read_with_their_defaults() {
    let config = parse(&format!("{POWER}{ENERGY}"));
    let (power, energy) = (&config.derived[0], &config.named[0]);
    assert_eq!((power.formula, power.scale, power.offset), (Formula::Product, 1.0, 0.0));
    assert_eq!((power.above, power.below, &*power.unit), (None, None, ""));
    assert_eq!(energy.function, Function::Increase);
    assert_eq!((energy.keep, energy.scale, &*energy.unit), (100, 1.0, ""));
    assert_eq!(parse(&config.to_toml()), config);
    let words =
        format!("{POWER}below = -5.5\nunit = \"VA\"\noffset = -1\n{ENERGY}unit = \"kWh\"\nscale = 0.001");
    let config = parse(&words);
    assert_eq!(parse(&config.to_toml()), config, "{}", config.to_toml());
}

#[test]
fn a_derived_attribute_alone_is_nothing_to_fold() {
    assert!(parse(POWER).folds().declared.is_empty());
    let both = parse(&format!("{POWER}{ENERGY}"));
    assert_eq!((both.folds().declared.derived, both.folds().declared.aggregates), (both.derived, both.named));
}

#[test]
fn changes_are_named_and_need_no_restart() {
    let all = format!("{POWER}{ENERGY}");
    for (old, new, expected) in [
        ("", POWER, "derived_attribute \"power\""),
        (POWER, "", "derived_attribute \"power\""),
        (POWER, &*format!("{POWER}above = 5"), "derived_attribute \"power\""),
        (&*all, &*format!("{all}scale = 5"), "named_aggregate \"energy\""),
        (&*all, POWER, "named_aggregate \"energy\""),
    ] {
        let changes = parse(old).diff(&parse(new));
        let found: Vec<_> = changes.iter().map(|change| (&*change.key, change.reloadable)).collect();
        assert_eq!(found, [(expected, true)]);
    }
}
