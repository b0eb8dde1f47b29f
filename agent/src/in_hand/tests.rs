use super::*;

const BOOT: [u8; 16] = [7; 16];

/// A large message.
fn message(topic: &str, payload: &[u8]) -> Message {
    small(topic, &[payload, &[0; LARGE_BYTES], payload].concat())
}

fn small(topic: &str, payload: &[u8]) -> Message {
    Message {
        topic: topic.as_bytes().to_vec().into(),
        payload: payload.to_vec().into(),
        retain: false,
        dup: false,
        pkid: Some(1),
        fault: None,
    }
}

/// A series of runs. Each ends when it is dropped, like a killed process.
struct Runs {
    dir: tempfile::TempDir,
    boot: [u8; 16],
}

impl Runs {
    fn new() -> Runs {
        Runs { dir: tempfile::tempdir().unwrap(), boot: BOOT }
    }

    fn start(&self) -> InHand {
        InHand::open(self.dir.path(), Epoch(1), self.boot)
    }

    /// A run that takes these messages in one delivery, and is killed while observing the last of them.
    fn dies_of(&self, messages: &[Message]) -> Vec<Treatment> {
        let mut run = self.start();
        run.begin(messages);
        let last = messages.len() - 1;
        let take = |(at, message): (usize, &Message)| {
            let treatment = run.treatment("s", message);
            if let Treatment::Alone(named) = treatment {
                run.alone(named);
                if at < last {
                    run.survived();
                }
            }
            treatment
        };
        messages.iter().enumerate().map(take).collect()
    }

    fn treatment(&self, message: &Message) -> Treatment {
        self.start().treatment("s", message)
    }
}

fn is_alone(treatment: Treatment) -> bool {
    matches!(treatment, Treatment::Alone(_))
}

const UNREAD: Treatment = Treatment::Unread { first: true };

#[test]
fn a_message_in_hand_at_two_deaths_is_not_read_by_the_third_start() {
    let runs = Runs::new();
    let (before, poison, after) = (message("a", b"1"), message("b", b"2"), message("c", b"3"));
    let delivery = [before.clone(), poison.clone()];
    assert_eq!(runs.dies_of(&delivery), [Treatment::Usual; 2]);
    assert!(runs.dies_of(&delivery).into_iter().all(is_alone));
    let mut third = runs.start();
    assert_eq!(third.treatment("s", &poison), UNREAD);
    assert_eq!(third.treatment("s", &poison), Treatment::Unread { first: false });
    assert_eq!(third.treatment("other source", &poison), Treatment::Usual);
    assert!(!matches!(third.treatment("s", &before), Treatment::Unread { .. }));
    assert_eq!(third.treatment("s", &after), Treatment::Usual);
    assert_eq!(runs.treatment(&poison), UNREAD, "a further start does not read it either");
}

#[test]
fn another_message_at_the_second_death_condemns_neither() {
    let runs = Runs::new();
    let (one, other) = (message("a", b"1"), message("b", b"2"));
    runs.dies_of(std::slice::from_ref(&one));
    runs.dies_of(std::slice::from_ref(&other));
    assert!(is_alone(runs.treatment(&one)) && is_alone(runs.treatment(&other)));
}

#[test]
fn what_only_looks_alike_is_taken_by_itself_but_read() {
    let runs = Runs::new();
    let middle = |byte: u8| message("a", &[&[0; 8][..], &[byte], &[0; 8]].concat());
    runs.dies_of(&[middle(1)]);
    runs.dies_of(&[middle(1)]);
    assert_eq!(mark(&middle(1)), mark(&middle(2)));
    assert_eq!(runs.treatment(&middle(2)), Treatment::Usual);
    assert_eq!(runs.treatment(&middle(1)), UNREAD);
}

#[test]
fn only_a_large_message_is_in_hand_and_until_it_is_committed() {
    let runs = Runs::new();
    let (small, large) = (small("a", b"1"), message("b", b"2"));
    let both = [small.clone(), large.clone()];
    let mut run = runs.start();
    run.begin(&both);
    run.observed(&both);
    drop(run);
    let mut run = runs.start();
    assert_eq!(run.treatment("s", &small), Treatment::Usual);
    assert!(is_alone(run.treatment("s", &large)));
    run.withdraw();

    let mut run = runs.start();
    run.begin(&both);
    run.observed(&both);
    run.committed();
    drop(run);
    assert_eq!(runs.treatment(&large), Treatment::Usual);
}

#[test]
fn what_was_survived_is_forgotten() {
    let runs = Runs::new();
    let one = message("a", b"1");
    runs.dies_of(std::slice::from_ref(&one));
    let mut run = runs.start();
    let Treatment::Alone(named) = run.treatment("s", &one) else { panic!("it is not alone") };
    run.alone(named);
    run.survived();
    drop(run);
    assert_eq!(runs.treatment(&one), Treatment::Usual);
}

#[test]
fn of_two_that_kill_each_is_found() {
    let runs = Runs::new();
    let (one, two) = (message("a", b"1"), message("b", b"2"));
    runs.dies_of(&[one.clone(), two.clone()]);
    runs.dies_of(std::slice::from_ref(&one));
    runs.dies_of(&[one.clone(), two.clone()]);
    let mut run = runs.start();
    assert_eq!([run.treatment("s", &one), run.treatment("s", &two)], [UNREAD; 2]);
}

#[test]
fn an_orderly_end_and_a_boot_take_the_note_away() {
    let mut runs = Runs::new();
    let one = message("a", b"1");
    runs.dies_of(std::slice::from_ref(&one));
    runs.dies_of(std::slice::from_ref(&one));
    runs.boot = [8; 16];
    assert_eq!(runs.treatment(&one), Treatment::Usual);

    runs.dies_of(std::slice::from_ref(&one));
    runs.start().withdraw();
    assert_eq!(fs::read_dir(runs.dir.path()).unwrap().count(), 0);
    assert_eq!(runs.treatment(&one), Treatment::Usual);
}

#[test]
fn a_note_that_is_none_is_passed_over() {
    let runs = Runs::new();
    let one = message("a", b"1");
    runs.dies_of(std::slice::from_ref(&one));
    let path = runs.dir.path().join("in-hand-0000000000000001");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(runs.treatment(&one), Treatment::Usual, "{length} bytes of a note");
    }
    fs::write(&path, [0xff; 200]).unwrap();
    assert_eq!(runs.treatment(&one), Treatment::Usual);
    fs::write(&path, &whole).unwrap();
    assert!(is_alone(runs.treatment(&one)));
}

#[test]
fn without_a_place_for_it_there_is_no_note() {
    let mut run = InHand::open(Path::new("/nonexistent"), Epoch(1), BOOT);
    let one = [message("a", b"1")];
    run.begin(&one);
    assert_eq!(run.treatment("s", &one[0]), Treatment::Usual);
    run.observed(&one);
    run.withdraw();
}

#[test]
fn the_note_is_kept_in_memory_if_systemd_has_given_some() {
    let given = tempfile::tempdir().unwrap();
    assert_eq!(dir(Some(given.path())).as_deref(), Some(given.path()));
    let shared = Some(Path::new(SHARED_MEMORY)).filter(|dir| dir.is_dir());
    for none in [Some(given.path().join("none")), Some(PathBuf::from("src")), None] {
        assert_eq!(dir(none.as_deref()).as_deref(), shared);
    }
}

#[test]
fn a_small_message_that_the_writer_panics_of_twice_is_not_read_by_the_third_start() {
    let runs = Runs::new();
    let (poison, other) = (small("a", b"1"), small("b", b"2"));
    let mut first = runs.start();
    first.begin(&[other.clone(), poison.clone()]);
    first.panicked(&poison);
    drop(first);
    let mut second = runs.start();
    assert_eq!(second.treatment("s", &other), Treatment::Usual);
    let Treatment::Alone(named) = second.treatment("s", &poison) else { panic!() };
    second.alone(named);
    second.panicked(&poison);
    drop(second);
    assert_eq!(runs.treatment(&other), Treatment::Usual);
    assert_eq!(runs.treatment(&poison), UNREAD);
}

/// Runs that are killed young, each while observing the last of these messages.
fn die_young(runs: &Runs, deaths: u32, messages: &[Message]) {
    for _ in 0..deaths {
        runs.dies_of(messages);
    }
}

#[test]
fn a_small_message_that_kills_is_found_by_the_tenth_start() {
    let runs = Runs::new();
    let (before, poison) = (small("a", b"1"), small("b", b"2"));
    let delivery = [before.clone(), poison.clone()];
    for _ in 0..YOUNG_DEATHS {
        assert_eq!(runs.dies_of(&delivery), [Treatment::Usual; 2]);
    }
    for _ in 0..WATCHED_DEATHS {
        assert!(runs.dies_of(&delivery).into_iter().all(is_alone));
    }
    let mut tenth = runs.start();
    assert!(is_alone(tenth.treatment("s", &before)), "it is read, and still by itself");
    assert_eq!(tenth.treatment("s", &poison), UNREAD);
    tenth.lived(YOUNG);
    assert_eq!(tenth.treatment("s", &before), Treatment::Usual);
    drop(tenth);
    assert_eq!(runs.treatment(&poison), UNREAD, "a further start does not read it either");
}

#[test]
fn a_careful_run_that_dies_of_another_message_begins_to_count_anew() {
    let runs = Runs::new();
    let (one, other) = ([small("a", b"1")], [small("b", b"2")]);
    die_young(&runs, YOUNG_DEATHS + WATCHED_DEATHS - 1, &one);
    die_young(&runs, 1, &other);
    die_young(&runs, WATCHED_DEATHS - 1, &one);
    assert!(is_alone(runs.treatment(&one[0])) && is_alone(runs.treatment(&other[0])));
    // A message that was survived is not counted further.
    let mut run = runs.start();
    let Treatment::Alone(named) = run.treatment("s", &one[0]) else { panic!("it is not alone") };
    run.alone(named);
    run.survived();
    drop(run);
    die_young(&runs, WATCHED_DEATHS - 1, &one);
    assert!(is_alone(runs.treatment(&one[0])));
    die_young(&runs, 1, &one);
    assert_eq!(runs.treatment(&one[0]), UNREAD);
}

#[test]
fn a_run_that_lived_or_ended_in_an_orderly_way_is_no_young_death() {
    for orderly in [false, true] {
        let runs = Runs::new();
        let one = [small("a", b"1")];
        die_young(&runs, YOUNG_DEATHS - 1, &one);
        let mut run = runs.start();
        run.lived(YOUNG - Duration::from_secs(1));
        if orderly {
            run.withdraw();
        } else {
            run.lived(YOUNG);
        }
        drop(run);
        die_young(&runs, YOUNG_DEATHS - 1, &one);
        assert_eq!(runs.treatment(&one[0]), Treatment::Usual);
        assert!(is_alone(runs.treatment(&one[0])), "the look before was a young death, too");
    }
}

/// Random kills: each run is killed at some moment, one in twenty of them while the first redelivered message is in
/// hand, several times the rate of `kill -9` in the end-to-end tests.
#[test]
fn kills_at_random_condemn_nobody() {
    let runs = Runs::new();
    let mut rng = fieldlog_sim::rng::Rng::new(20_261_128);
    let (mut at, mut unread) = (0_u32, 0);
    for _ in 0..2_000 {
        let mut run = runs.start();
        let mut killed = false;
        while !killed {
            let message = small("t", &at.to_le_bytes());
            let treatment = run.treatment("s", &message);
            unread += u32::from(matches!(treatment, Treatment::Unread { .. }));
            killed = rng.below(20) == 0;
            if let Treatment::Alone(named) = treatment {
                run.alone(named);
                if !killed {
                    run.survived();
                }
            }
            at += u32::from(!killed);
        }
    }
    assert_eq!(unread, 0, "of {at} messages");
}
