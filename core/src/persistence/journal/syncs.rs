//! What is to be made durable and what is, between the engine, which writes, and the thread that has the disk to itself.
//!
//! Positions count the bytes of the journal since the server started, over all of its files. What was asked is done in
//! order, so that everything up to `durable` is.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::super::disk::AppendFile;

/// What is asked, and how far it has come.
#[derive(Default)]
pub struct Syncs {
    /// Replies wait until everything up to here is durable.
    promised: AtomicU64,
    durable: AtomicU64,
    queue: Mutex<Queue>,
    news: Condvar,
    has_failed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    is_running: bool,
    is_closed: bool,
    error: Option<io::Error>,
}

/// A file, and up to where it is to be made durable.
pub struct Task {
    file: Arc<dyn AppendFile>,
    upto: u64,
    /// Somebody waits for it who cannot be told that it has failed.
    pub is_promised: bool,
}

impl Syncs {
    /// Asks for what has been written to a file to be made durable. Up to `upto` everything is, then.
    pub fn ask(&self, file: &Arc<dyn AppendFile>, upto: u64, is_promised: bool) {
        let mut queue = self.queue.lock();
        match queue.tasks.back_mut() {
            Some(last) if Arc::ptr_eq(&last.file, file) => {
                last.upto = upto;
                last.is_promised |= is_promised;
            }
            _ => queue.tasks.push_back(Task { file: file.clone(), upto, is_promised }),
        }
        if is_promised {
            self.promised.fetch_max(upto, Ordering::Release);
        }
        if !queue.is_running {
            self.news.notify_all();
        }
    }

    /// Replies wait until everything up to here is durable, though it cannot be asked for yet.
    pub fn promise(&self, upto: u64) {
        self.promised.fetch_max(upto, Ordering::Release);
    }

    /// What was promised cannot be kept: no reply is sent any more.
    pub fn promise_nothing(&self) {
        self.promised.store(u64::MAX, Ordering::Release);
    }

    /// Whether something is asked that has not been done.
    pub fn is_busy(&self) -> bool {
        let queue = self.queue.lock();
        queue.is_running || !queue.tasks.is_empty()
    }

    /// How many files have something that is not durable.
    pub fn waiting(&self) -> usize {
        let queue = self.queue.lock();
        queue.tasks.len() + usize::from(queue.is_running)
    }

    /// Waits until something is asked; false if nothing will be any more.
    pub fn wait(&self) -> bool {
        let mut queue = self.queue.lock();
        while queue.tasks.is_empty() && !queue.is_closed {
            self.news.wait(&mut queue);
        }
        !queue.tasks.is_empty()
    }

    /// Waits until what was asked is done.
    pub fn drain(&self) {
        const GLANCE: Duration = Duration::from_micros(200);
        while self.is_busy() {
            std::thread::sleep(GLANCE);
        }
    }

    /// Nothing will be asked any more.
    pub fn close(&self) {
        self.queue.lock().is_closed = true;
        self.news.notify_all();
    }

    /// Takes what was asked first.
    pub fn take(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        let task = queue.tasks.pop_front();
        queue.is_running = task.is_some();
        task
    }

    /// Does it, and notes how that ended.
    pub fn perform(&self, task: Task) -> Result<(), String> {
        let done = task.file.sync();
        let mut queue = self.queue.lock();
        queue.is_running = false;
        match done {
            Ok(()) => {
                queue.error = None;
                self.has_failed.store(false, Ordering::Release);
                self.durable.fetch_max(task.upto, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                let text = crate::server::error_text(&error);
                queue.error = Some(error);
                if !self.has_failed.swap(true, Ordering::AcqRel) && !task.is_promised {
                    tracing::warn!("Fail to fsync the AOF file: {text}");
                }
                Err(text)
            }
        }
    }

    /// Everything up to here is durable: whoever knows has seen to it.
    pub fn note_durable(&self, upto: u64) {
        self.durable.fetch_max(upto, Ordering::Release);
    }

    /// Whether the last sync has failed, of which nobody was told.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Why it has.
    pub fn failure(&self) -> Option<String> {
        self.queue.lock().error.as_ref().map(crate::server::error_text)
    }

    /// What has failed is of no interest any more.
    pub fn forget_failure(&self) {
        self.queue.lock().error = None;
        self.has_failed.store(false, Ordering::Release);
    }

    /// Whether replies have to wait now.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.promised.load(Ordering::Acquire) > self.durable.load(Ordering::Acquire)
    }

    /// Up to where everything has to be durable before a reply is sent that is written now.
    #[inline(always)]
    pub fn promised(&self) -> u64 {
        self.promised.load(Ordering::Acquire)
    }

    /// Up to where everything is durable.
    #[inline(always)]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::disk::{Disk, MemoryDisk};

    #[test]
    fn what_is_asked_twice_is_done_once_and_in_order() {
        let (syncs, disk) = (Syncs::default(), MemoryDisk::default());
        let files = ["a", "b"].map(|name| disk.append(name.as_ref()).unwrap());
        assert!(!syncs.is_busy() && !syncs.holds() && syncs.take().is_none());
        syncs.ask(&files[0], 5, false);
        assert!(syncs.is_busy() && !syncs.holds(), "nobody waits for it");
        syncs.ask(&files[0], 8, true);
        syncs.ask(&files[1], 9, true);
        assert_eq!((syncs.waiting(), syncs.promised(), syncs.holds()), (2, 9, true));
        let mut seen = Vec::new();
        while let Some(task) = syncs.take() {
            assert!(syncs.is_busy());
            syncs.perform(task).unwrap();
            seen.push((syncs.durable(), syncs.holds()));
        }
        assert_eq!(seen, [(8, true), (9, false)]);
        syncs.close();
        assert!(!syncs.wait());
    }

    #[test]
    fn a_failure_is_known_until_something_succeeds() {
        struct Broken;
        impl AppendFile for Broken {
            fn append(&self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn sync(&self) -> io::Result<()> {
                Err(io::Error::from_raw_os_error(5))
            }
            fn truncate(&self, _: u64) -> io::Result<()> {
                Ok(())
            }
        }
        let (syncs, broken): (Syncs, Arc<dyn AppendFile>) = (Syncs::default(), Arc::new(Broken));
        syncs.ask(&broken, 5, false);
        let task = syncs.take().unwrap();
        assert!(syncs.perform(task).is_err() && syncs.has_failed() && syncs.durable() == 0);
        assert_eq!(syncs.failure().as_deref(), Some("Input/output error"));
        let file = MemoryDisk::default().append("a".as_ref()).unwrap();
        syncs.ask(&file, 6, false);
        let task = syncs.take().unwrap();
        assert!(syncs.perform(task).is_ok() && !syncs.has_failed() && syncs.failure().is_none());
    }
}
