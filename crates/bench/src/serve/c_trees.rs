//! XGBoost's and LightGBM's C interfaces, by their quickest calls (xgboost/c_api.h, LightGBM/c_api.h), in one thread.
#![expect(
    unsafe_code,
    reason = "C libraries are called; each type below owns what it points to"
)]

use crate::Failure;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

type Handle = *mut c_void;

/// A model in its own library.
pub(crate) trait Peer {
    /// Predicts rows that follow each other; appends the answers.
    fn predict(&mut self, rows: &[f32], wide: &[f64], out: &mut Vec<f64>) -> Result<(), Failure>;
}

type PredictFromDense = unsafe extern "C" fn(
    Handle,
    *const c_char,
    *const c_char,
    Handle,
    *mut *const u64,
    *mut u64,
    *mut *const f32,
) -> c_int;

/// A booster of XGBoost.
pub(crate) struct Xgboost {
    booster: Handle,
    predict: PredictFromDense,
    free: unsafe extern "C" fn(Handle) -> c_int,
    last_error: unsafe extern "C" fn() -> *const c_char,
    n_cols: usize,
    config: CString,
    /// After what calls it.
    _library: Library,
}

impl Xgboost {
    pub(crate) fn load(library: &Path, model: &Path, n_cols: usize) -> Result<Xgboost, Failure> {
        let path = CString::new(model.to_string_lossy().as_bytes())?;
        // SAFETY: the types are those of the header; the pointers live through the calls.
        unsafe {
            let library = Library::new(library)?;
            let create: unsafe extern "C" fn(*const Handle, u64, *mut Handle) -> c_int =
                *library.get("XGBoosterCreate")?;
            let load: unsafe extern "C" fn(Handle, *const c_char) -> c_int =
                *library.get("XGBoosterLoadModel")?;
            let set: unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> c_int =
                *library.get("XGBoosterSetParam")?;
            let mut booster = null_mut();
            let created = create(null(), 0, &raw mut booster);
            let xgboost = Xgboost {
                booster,
                predict: *library.get("XGBoosterPredictFromDense")?,
                free: *library.get("XGBoosterFree")?,
                last_error: *library.get("XGBGetLastError")?,
                n_cols,
                config: c"{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\"strict_shape\":false,\"cache_id\":0,\"missing\":NaN}".to_owned(),
                _library: library,
            };
            xgboost.done(created)?;
            xgboost.done(load(booster, path.as_ptr()))?;
            xgboost.done(set(booster, c"nthread".as_ptr(), c"1".as_ptr()))?;
            Ok(xgboost)
        }
    }

    fn done(&self, code: c_int) -> Result<(), Failure> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a string of the library that is copied.
        let text = unsafe { CStr::from_ptr((self.last_error)()) };
        Err(format!("xgboost: {}", text.to_string_lossy()).into())
    }
}

impl Peer for Xgboost {
    fn predict(&mut self, rows: &[f32], _wide: &[f64], out: &mut Vec<f64>) -> Result<(), Failure> {
        let n_rows = rows.len() / self.n_cols;
        // Where the rows lie, as the interface wants to be told: a part of every call.
        let array = CString::new(format!(
            "{{\"data\":[{},true],\"shape\":[{n_rows},{}],\"typestr\":\"<f4\",\"version\":3}}",
            rows.as_ptr().addr(),
            self.n_cols
        ))?;
        let (mut shape, mut n_dims, mut answers) = (null(), 0, null());
        // SAFETY: the pointers live through the call.
        let code = unsafe {
            (self.predict)(
                self.booster,
                array.as_ptr(),
                self.config.as_ptr(),
                null_mut(),
                &raw mut shape,
                &raw mut n_dims,
                &raw mut answers,
            )
        };
        self.done(code)?;
        // SAFETY: a model with one output answers a number a row; the library keeps them until its next call.
        let answers = unsafe { std::slice::from_raw_parts(answers, n_rows) };
        out.extend(answers.iter().map(|answer| f64::from(*answer)));
        Ok(())
    }
}

impl Drop for Xgboost {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more.
        unsafe { (self.free)(self.booster) };
    }
}

type PredictForMat = unsafe extern "C" fn(
    Handle,
    *const c_void,
    c_int,
    i32,
    i32,
    c_int,
    c_int,
    c_int,
    c_int,
    *const c_char,
    *mut i64,
    *mut f64,
) -> c_int;

const ONE_THREAD: &CStr = c"num_threads=1";
/// `C_API_DTYPE_FLOAT64`.
const FLOAT64: c_int = 1;

/// A booster of LightGBM.
pub(crate) struct Lightgbm {
    booster: Handle,
    /// What the quick call for one row wants.
    fast: Handle,
    predict: PredictForMat,
    predict_fast: unsafe extern "C" fn(Handle, *const c_void, *mut i64, *mut f64) -> c_int,
    free: unsafe extern "C" fn(Handle) -> c_int,
    free_fast: unsafe extern "C" fn(Handle) -> c_int,
    last_error: unsafe extern "C" fn() -> *const c_char,
    n_cols: i32,
    /// After what calls it.
    _library: Library,
}

impl Lightgbm {
    pub(crate) fn load(library: &Path, model: &Path, n_cols: usize) -> Result<Lightgbm, Failure> {
        let path = CString::new(model.to_string_lossy().as_bytes())?;
        let n_cols = i32::try_from(n_cols)?;
        // SAFETY: the types are those of the header; the pointers live through the calls.
        unsafe {
            let library = Library::new(library)?;
            let load: unsafe extern "C" fn(*const c_char, *mut c_int, *mut Handle) -> c_int =
                *library.get("LGBM_BoosterCreateFromModelfile")?;
            let fast: unsafe extern "C" fn(
                Handle,
                c_int,
                c_int,
                c_int,
                c_int,
                i32,
                *const c_char,
                *mut Handle,
            ) -> c_int = *library.get("LGBM_BoosterPredictForMatSingleRowFastInit")?;
            let (mut n_iterations, mut booster) = (0, null_mut());
            let loaded = load(path.as_ptr(), &raw mut n_iterations, &raw mut booster);
            let mut lightgbm = Lightgbm {
                booster,
                fast: null_mut(),
                predict: *library.get("LGBM_BoosterPredictForMat")?,
                predict_fast: *library.get("LGBM_BoosterPredictForMatSingleRowFast")?,
                free: *library.get("LGBM_BoosterFree")?,
                free_fast: *library.get("LGBM_FastConfigFree")?,
                last_error: *library.get("LGBM_GetLastError")?,
                n_cols,
                _library: library,
            };
            lightgbm.done(loaded)?;
            let made = fast(
                booster,
                0,
                0,
                -1,
                FLOAT64,
                n_cols,
                ONE_THREAD.as_ptr(),
                &raw mut lightgbm.fast,
            );
            lightgbm.done(made)?;
            Ok(lightgbm)
        }
    }

    fn done(&self, code: c_int) -> Result<(), Failure> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a string of the library that is copied.
        let text = unsafe { CStr::from_ptr((self.last_error)()) };
        Err(format!("lightgbm: {}", text.to_string_lossy()).into())
    }
}

impl Peer for Lightgbm {
    fn predict(&mut self, _rows: &[f32], wide: &[f64], out: &mut Vec<f64>) -> Result<(), Failure> {
        let n_rows = i32::try_from(wide.len())? / self.n_cols;
        let start = out.len();
        out.resize(start + usize::try_from(n_rows)?, 0.0);
        let (rows, answers, mut n) = (wide.as_ptr().cast(), out[start..].as_mut_ptr(), 0);
        // SAFETY: the pointers live through the call; there is room for an answer a row.
        let code = unsafe {
            if n_rows == 1 {
                (self.predict_fast)(self.fast, rows, &raw mut n, answers)
            } else {
                (self.predict)(
                    self.booster,
                    rows,
                    FLOAT64,
                    n_rows,
                    self.n_cols,
                    1,
                    0,
                    0,
                    -1,
                    ONE_THREAD.as_ptr(),
                    &raw mut n,
                    answers,
                )
            }
        };
        self.done(code)
    }
}

impl Drop for Lightgbm {
    fn drop(&mut self) {
        // SAFETY: nobody has them any more.
        unsafe {
            if !self.fast.is_null() {
                (self.free_fast)(self.fast);
            }
            (self.free)(self.booster);
        }
    }
}
