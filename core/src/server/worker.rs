//! Jobs off the engine's thread: freeing what is large, later hashing passwords and writing files.

use std::sync::mpsc;

use crate::engine::Job;

/// The worker thread, as the rim sees it.
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Worker> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("mortise-worker".to_owned()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                job();
            }
        })?;
        Ok(Worker { jobs })
    }

    /// Hands over a job. If the worker is gone, the server is stopping, and the job with it.
    pub fn start_job(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}
