//! The plugin ABI of exellix-jobs, major 1, minor 0, by hand: include/exellix/plugin.h says
//! what each member means. Members are only ever appended there, so this stays right.
#![allow(dead_code)]

use std::ffi::c_void;
use std::os::raw::c_char;

pub type Call = u64;
pub type Outcome = i32;
pub const OK: Outcome = 0;
pub const FAILED: Outcome = 2;
pub const RETRY: Outcome = 3;
pub const CANCELLED: Outcome = 4;
pub const INPUT: Outcome = 6;
pub const INTERNAL: Outcome = 8;
pub const MISS: Outcome = 9;

pub const KIND_GRAPH_ENGINE: u32 = 1;
pub const KIND_SOURCE_RESOLVER: u32 = 2;
pub const FLAG_CONCURRENT: u32 = 1;

/// UTF-8 with a length; not ended by a NUL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    pub p: *const c_char,
    pub n: u64,
}

impl Str {
    pub const fn of(text: &'static str) -> Str {
        Str { p: text.as_ptr() as *const c_char, n: text.len() as u64 }
    }

    pub fn borrow(text: &str) -> Str {
        Str { p: text.as_ptr() as *const c_char, n: text.len() as u64 }
    }

    /// # Safety
    /// The host says how long the text lives: at most until the call returns.
    pub unsafe fn text<'a>(self) -> &'a str {
        if self.n == 0 || self.p.is_null() {
            return "";
        }
        let bytes = std::slice::from_raw_parts(self.p as *const u8, self.n as usize);
        std::str::from_utf8(bytes).unwrap_or("")
    }
}

#[repr(C)]
pub struct Host {
    pub size_of: u32,
    pub abi_minor: u32,
    pub ctx: *mut c_void,
    pub log: unsafe extern "C" fn(*mut c_void, Call, i32, Str),
    pub error: unsafe extern "C" fn(*mut c_void, Call, Outcome, Str, Str),
    pub cancelled: unsafe extern "C" fn(*mut c_void, Call) -> i32,
    pub progress: unsafe extern "C" fn(*mut c_void, Call, f64, Str),
    pub emit: unsafe extern "C" fn(*mut c_void, Call, Str) -> Outcome,
    pub journal_lookup: unsafe extern "C" fn(*mut c_void, Call, Str, *mut Str) -> Outcome,
    pub journal_intent: unsafe extern "C" fn(*mut c_void, Call, Str) -> Outcome,
    pub journal_commit: unsafe extern "C" fn(*mut c_void, Call, Str, Str) -> Outcome,
    pub complete: unsafe extern "C" fn(*mut c_void, Call, Outcome) -> Outcome,
    pub thread_start: unsafe extern "C" fn(
        *mut c_void,
        unsafe extern "C" fn(*mut c_void),
        *mut c_void,
    ) -> Outcome,
    pub extension: unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void,
}

#[repr(C)]
pub struct Args {
    pub size_of: u32,
    pub attempt: u32,
    pub deadline_ns: u64,
    pub model: Str,
    pub runtime: Str,
    pub job_id: Str,
    pub record_id: Str,
    pub token: u64,
}

/// Up to `destroy`: what may be absent, is.
#[repr(C)]
pub struct Plugin {
    pub size_of: u32,
    pub kind: u32,
    pub flags: u32,
    pub state_version: u32,
    pub id: *const c_char,
    pub version: *const c_char,
    pub describe: Str,
    pub create: unsafe extern "C" fn(*const Host, Str, *mut *mut c_void) -> Outcome,
    pub execute: unsafe extern "C" fn(*mut c_void, Call, *const Args) -> Outcome,
    pub destroy: unsafe extern "C" fn(*mut c_void),
}
unsafe impl Sync for Plugin {}

#[repr(C)]
pub struct List<const N: usize>(pub [&'static Plugin; N]);

#[repr(C)]
pub struct Bundle<const N: usize> {
    pub size_of: u32,
    pub abi_minor: u32,
    pub n: u32,
    pub reserved: u32,
    pub plugins: &'static List<N>,
}

/// Readable from the file before any of its code runs.
#[repr(C, align(4))]
pub struct Note {
    pub namesz: u32,
    pub descsz: u32,
    pub kind: u32,
    pub name: [u8; 8],
    pub abi_major: u32,
    pub abi_minor: u32,
    pub kinds: u32,
    pub flags: u32,
    pub sdk: u32,
    pub reserved: u32,
}

pub const fn note(kinds: u32, flags: u32) -> Note {
    Note {
        namesz: 8,
        descsz: 24,
        kind: 1,
        name: *b"exellix\0",
        abi_major: 1,
        abi_minor: 0,
        kinds,
        flags,
        sdk: 1,
        reserved: 0,
    }
}

/// One instance knows the host's table and nothing else.
pub struct Instance {
    pub host: *const Host,
}

impl Instance {
    /// # Safety
    /// Only within a call, with that call.
    pub unsafe fn emit(&self, call: Call, json: &str) -> Outcome {
        ((*self.host).emit)((*self.host).ctx, call, Str::borrow(json))
    }

    /// # Safety
    /// Only within a call, with that call.
    pub unsafe fn fail(&self, call: Call, r: Outcome, code: &str, why: &str) -> Outcome {
        ((*self.host).error)((*self.host).ctx, call, r, Str::borrow(code), Str::borrow(why));
        r
    }

    /// # Safety
    /// Only within a call, with that call.
    pub unsafe fn cancelled(&self, call: Call) -> i32 {
        ((*self.host).cancelled)((*self.host).ctx, call)
    }
}

/// # Safety
/// The host's promise: `ret` is writable, `host` lives until destroy returns.
pub unsafe extern "C" fn create(host: *const Host, _config: Str, ret: *mut *mut c_void) -> Outcome {
    *ret = Box::into_raw(Box::new(Instance { host })) as *mut c_void;
    OK
}

/// # Safety
/// The host's promise: what create made, once.
pub unsafe extern "C" fn destroy(instance: *mut c_void) {
    drop(Box::from_raw(instance as *mut Instance));
}
