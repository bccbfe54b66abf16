//! The standard library's once, for those who do not see into it: a lock shows them what happens before what.

use super::Mutex;
use crate::lock::Lock;

#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    order: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock { value: std::sync::OnceLock::new(), order: Mutex::new(()) }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        let _order = self.order.locked();
        self.value.get()
    }

    pub(crate) fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        let _order = self.order.locked();
        self.value.get_or_init(f)
    }
}
