//! Whole engines on a disk that fails and a clock that jumps, from a seed: whenever the power goes, what was promised is
//! there after the next start.
//!
//! | file | owns |
//! |---|---|
//! | `disk.rs` `wreck.rs` | a disk that remembers what was done to it; what it holds if the power goes at some moment of that |
//! | `clock.rs` | time |
//! | `workload.rs` | what clients say |
//! | `world.rs` | an engine with its client, and what happens to it |
//! | `picture.rs` `model.rs` | all data in a form that can be compared; what a start has to find |
//!
//! A run is a chain of lives. When a life is over, the power is cut in retrospect before and after each operation of the
//! disk that it took, each time with several outcomes, and an engine is started on what is left. On one of these wrecks
//! the next life begins. All of it follows from the seed: what fails can be seen again.

mod clock;
mod disk;
mod model;
mod picture;
mod workload;
mod world;
mod wreck;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mortise_core::engine::random::Random;

use clock::SimClock;
pub use disk::Lie;
use disk::{Fault, Image, SimDisk, Step};
use model::Snapshots;
use picture::Picture;
pub use world::Seen;
use world::World;
use wreck::{Luck, Wreck};

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Lives.
    pub lives: usize,
    /// What happens in each, at most.
    pub happenings: usize,
    /// Outcomes of each cut of the power, beside the best and the worst.
    pub outcomes: usize,
    /// Whether there are journals.
    pub journal: bool,
    /// What the disk says that is not so.
    pub lie: Option<Lie>,
}

/// What a run has tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    /// Operations of disks at which the power was cut.
    pub operations: usize,
    /// Starts on what was left.
    pub starts: usize,
    /// What happened in its lives.
    pub seen: Seen,
}

impl Tried {
    /// Adds up.
    pub fn add(&mut self, other: &Tried) {
        self.operations += other.operations;
        self.starts += other.starts;
        self.seen.add(&other.seen);
    }
}

/// Operations of the disk that are shown before the one after which something was wrong.
const SHOWN: usize = 20;

/// Tells where a run was when it panicked.
struct Whereabouts {
    seed: u64,
    life: Cell<usize>,
    cut: Cell<Option<(usize, Luck)>>,
    /// What was done to the disk, and said.
    steps: RefCell<Vec<Step>>,
    said: RefCell<Vec<(usize, String)>>,
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, life) = (self.seed, self.life.get());
            let Some((at, luck)) = self.cut.get() else {
                eprintln!("SIMULATE_SEED={seed}: in life {life}");
                return;
            };
            let (steps, said) = (self.steps.borrow(), self.said.borrow());
            for (n, step) in steps.iter().enumerate().take(at).skip(at.saturating_sub(SHOWN)) {
                said.iter().filter(|(when, _)| *when == n).for_each(|(_, line)| eprintln!("      > {line}"));
                eprintln!("{:5} {step:?}", n + 1);
            }
            eprintln!(
                "SIMULATE_SEED={seed}: in life {life}, the power cut after operation {at} with {luck:?}"
            );
        }
    }
}

/// A run that follows from its seed. Whatever is wrong ends it with a panic that names the seed.
pub fn run(seed: u64, extent: Extent) -> Tried {
    const BEGIN_MS: i64 = 1_700_000_000_000;
    let mut random = Random::new(seed);
    let whereabouts = Whereabouts {
        seed,
        life: Cell::new(0),
        cut: Cell::new(None),
        steps: RefCell::default(),
        said: RefCell::default(),
    };
    let clock = SimClock::new(BEGIN_MS);
    let (mut image, mut found) = (Image::new(), Arc::new(Picture::default()));
    let mut tried = Tried::default();
    for life in 0..extent.lives {
        whereabouts.life.set(life);
        let model = Snapshots::new(found.clone());
        let has_journal = extent.journal && random.below(5) > 0;
        let world = World::start(image.clone(), &clock, model, has_journal, random.word());
        let mut world = world.unwrap_or_else(|error| panic!("it does not start: {error}"));
        world.disk.lie(extent.lie);
        world.live(extent.happenings);
        tried.seen.add(&world.seen);
        let steps = world.disk.steps();
        whereabouts.steps.replace(steps.clone());
        whereabouts.said.replace(std::mem::take(&mut world.said));
        let mut wreck = Wreck::new(&image);
        let next = if random.below(2) == 0 { steps.len() } else { random.below(steps.len() + 1) };
        for at in 0..=steps.len() {
            if let Some(step) = at.checked_sub(1).map(|before| &steps[before]) {
                wreck.follow(step);
            }
            let chances = (0..extent.outcomes).map(|_| Luck::Chance(random.word()));
            let outcomes: Vec<Luck> = [Luck::None, Luck::All].into_iter().chain(chances).collect();
            let chosen = random.below(outcomes.len());
            for (nth, luck) in outcomes.into_iter().enumerate() {
                whereabouts.cut.set(Some((at, luck)));
                let left = wreck.image(luck);
                let is_next = at == next && nth == chosen;
                if world.units.is_on(at) {
                    look(&left, &clock, true, world.units.found_at(at));
                    tried.starts += 1;
                }
                if is_next || !world.units.is_on(at) {
                    let picture = look(&left, &clock, false, world.model.found_at(at));
                    tried.starts += 1;
                    if is_next {
                        (image, found) = (left, picture);
                    }
                }
            }
            tried.operations += 1;
        }
        refuses_what_it_cannot_read(&image, &clock, &mut random);
        whereabouts.cut.set(None);
        if random.below(4) == 0 {
            clock.jump_ms([-86_400_000, -1_000, 1_000, 86_400_000][random.below(4)]);
        }
    }
    tried
}

/// An engine that cannot read what there is does not start, and leaves it as it is.
fn refuses_what_it_cannot_read(image: &Image, clock: &SimClock, random: &mut Random) {
    let Some(len) = image.get(Path::new(world::FILE)).map(Vec::len) else { return };
    let disk = SimDisk::new(image.clone(), 1);
    match random.below(4) {
        0 => disk.break_at(0, Fault::Io),
        _ => disk.break_reading_after(random.below(len)),
    }
    assert!(world::start(&disk, clock, false, 1).is_err(), "it starts without having read all");
    assert!(disk.image() == *image, "what could not be read was changed");
}

/// Starts an engine on what is left; returns which of the pictures it may have it has.
fn look<'a>(
    left: &Image,
    clock: &SimClock,
    has_journal: bool,
    pictures: impl Iterator<Item = &'a Arc<Picture>>,
) -> Arc<Picture> {
    let what = if has_journal { "the journal" } else { "the snapshot" };
    let disk = SimDisk::new(left.clone(), 1);
    let engine = world::start(&disk, clock, has_journal, 1);
    let engine = engine.unwrap_or_else(|error| panic!("{what} cannot be loaded: {error}\n{}", listing(left)));
    // What has expired at any time may be there or not.
    let (has, latest_ms) = (Picture::of(&engine), clock.latest_ms());
    let mut others = Vec::new();
    for picture in pictures {
        if picture.is_like(&has, latest_ms) {
            return picture.clone();
        }
        others.push(format!("{} facts: {}", picture.count(), has.difference(picture, latest_ms)));
    }
    let (count, files) = (has.count(), listing(left));
    panic!("{what} has {count} facts that it may not have:\n{}\n{files}", others.join("\n"));
}

fn listing(files: &Image) -> String {
    let line = |(path, bytes): (&PathBuf, &Vec<u8>)| format!("{} {}", path.display(), bytes.len());
    files.iter().map(line).collect::<Vec<_>>().join("\n")
}
