//! The state of a machine as words, for the exhaustive search.
//!
//! The words have everything on which the machine's answers from now on depend, and nothing else:
//! objects that no observation shows are among them, the numbers of objects are not. An object gets its
//! place in the order of the first visit as its number. So two states have the same words exactly if they
//! are equal up to renumbering, and then the machine does the same after both.

use crate::observation::PageSet;

/// The kinds of objects that have numbers. Equal numbers of different kinds are different objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// anon_vmas.
    AnonVma,
    /// Anonymous pages.
    AnonPage,
    /// userfaultfd contexts.
    Uffd,
    /// The objects behind shared anonymous mappings. The other files are the same in every program.
    File,
    /// Open files: the attachments of the segment of SysV shared memory, for a machine that has no others.
    OpenFile,
    /// Memory policies.
    Policy,
    /// Address spaces.
    Mm,
}

impl Objects {
    /// The number of kinds.
    const COUNT: usize = 7;
}

/// The objects of one kind in the order of the first visit.
#[derive(Clone, Debug, Default)]
struct Numbers {
    /// By the machine's index: the place in `order`, counted from 1; 0 for an object not yet visited.
    places: Vec<u32>,
    /// The machine's index and handle of each visited object.
    order: Vec<(usize, u64)>,
}

impl Numbers {
    fn clear(&mut self) {
        for (index, _) in self.order.drain(..) {
            self.places[index] = 0;
        }
    }

    #[inline]
    fn of(&mut self, index: usize, handle: u64) -> u64 {
        if self.places.len() <= index {
            self.places.resize(index + 1, 0);
        }
        let place = &mut self.places[index];
        if *place == 0 {
            self.order.push((index, handle));
            *place = self.order.len() as u32;
        }
        (*place).into()
    }
}

/// The state of one or more machines.
///
/// ```
/// use vmadiff_machine::state::{Objects, State};
///
/// // The machine calls the two objects 7 and 3; another one calls them 0 and 1.
/// let words = |objects: [usize; 3]| {
///     let mut state = State::default();
///     state.begin();
///     for object in objects {
///         let number = state.number(Objects::AnonVma, Some(object));
///         state.word(number);
///     }
///     state.words().to_vec()
/// };
/// assert_eq!(words([7, 3, 7]), words([0, 1, 0]));
/// assert_ne!(words([7, 3, 7]), words([0, 1, 1]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct State {
    words: Vec<u64>,
    numbers: [Numbers; Objects::COUNT],
    /// The values of pages. The machines write equal values, so these numbers are those of all machines.
    values: Numbers,
}

impl State {
    /// Forgets the words of all machines, and the values. Keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.words.clear();
        self.values.clear();
    }

    /// Begins the words of a machine: none of its objects has been visited. Values keep their numbers.
    pub fn begin(&mut self) {
        self.numbers.iter_mut().for_each(Numbers::clear);
    }

    /// Returns the words of the machines so far.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Adds a word.
    #[inline]
    pub fn word(&mut self, word: u64) {
        self.words.push(word);
    }

    /// Adds a set of pages.
    #[inline]
    pub fn pages(&mut self, pages: PageSet) {
        self.words.extend([pages as u64, (pages >> 64) as u64]);
    }

    /// Visits an object, which the machine calls `index`, and returns its number, counted from 1; 0
    /// for none. The machine's indices are small.
    #[inline]
    pub fn number(&mut self, of: Objects, index: Option<usize>) -> u64 {
        index.map_or(0, |index| self.numbers[of as usize].of(index, index as u64))
    }

    /// Visits an object as [`State::number`] does, with a handle by which [`State::visited`] knows it.
    #[inline]
    pub fn number_of(&mut self, of: Objects, index: usize, handle: u64) -> u64 {
        self.numbers[of as usize].of(index, handle)
    }

    /// Visits a value of a page, and returns its number, counted from 1; 0 for the value 0, with which
    /// every page begins.
    ///
    /// A machine also visits the value that the program writes next. That value is then a new one, except
    /// in a program of more than 254 writes. So two states may differ in the number of writes before.
    ///
    /// ```
    /// # use vmadiff_machine::state::State;
    /// let mut state = State::default();
    /// state.begin();
    /// assert_eq!([7, 9, 0, 7].map(|value| state.value(value)), [1, 2, 0, 1]);
    /// // Another machine has its values in other pages.
    /// state.begin();
    /// assert_eq!([9, 7].map(|value| state.value(value)), [2, 1]);
    /// ```
    #[inline]
    pub fn value(&mut self, value: u8) -> u64 {
        if value == 0 { 0 } else { self.values.of(value.into(), value.into()) }
    }

    /// Returns the number of an object; 0 if it was not visited.
    pub fn number_if_visited(&self, of: Objects, index: usize) -> u64 {
        self.numbers[of as usize].places.get(index).copied().unwrap_or_default().into()
    }

    /// Returns the handle of the object that was visited as the `n`th of its kind, counted from 0: the
    /// machine's index if no other handle was given. Returns `None` if fewer were visited.
    #[inline]
    pub fn visited(&self, of: Objects, n: usize) -> Option<u64> {
        self.numbers[of as usize].order.get(n).map(|&(_, handle)| handle)
    }
}
