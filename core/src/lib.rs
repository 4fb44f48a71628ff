//! mortise-core

pub mod keyspace {
    //! Keys.
    pub mod hash;
}
pub mod types {
    //! Values.
    pub mod ranked;
    pub mod table;
}
