//! DescribeUserScramCredentials and AlterUserScramCredentials: who may authenticate by SCRAM.
//!
//! Passwords are salted by who sets them: the broker never sees one. KIP-554. Pure.

use bytes::Bytes;

use crate::wire;

wire! {
    /// Asks which credentials users have.
    pub struct DescribeUserScramCredentialsRequest {
        /// The users. `None`, or none of them: all.
        users: Option<Vec<ScramUser>> = Some(Vec::new());
    }

    /// A user.
    pub struct ScramUser {
        /// Its name.
        name: String;
    }

    /// The credentials of users.
    pub struct DescribeUserScramCredentialsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// What each user has.
        results: Vec<DescribedScramUser>;
    }

    /// What one user has.
    pub struct DescribedScramUser {
        /// The user's name.
        user: String;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// Its credentials.
        credential_infos: Vec<ScramCredentialInfo>;
    }

    /// A credential, without what is secret of it.
    pub struct ScramCredentialInfo {
        /// The mechanism: 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8;
        /// How often the password was hashed.
        iterations: i32;
    }

    /// Sets and removes credentials.
    pub struct AlterUserScramCredentialsRequest {
        /// Those to remove.
        deletions: Vec<ScramCredentialDeletion>;
        /// Those to set.
        upsertions: Vec<ScramCredentialUpsertion>;
    }

    /// A credential to remove.
    pub struct ScramCredentialDeletion {
        /// Whose.
        name: String;
        /// Of which mechanism.
        mechanism: i8;
    }

    /// A credential to set.
    pub struct ScramCredentialUpsertion {
        /// Whose.
        name: String;
        /// Of which mechanism.
        mechanism: i8;
        /// How often the password was hashed.
        iterations: i32;
        /// What it was salted with.
        salt: Bytes;
        /// The password, salted and hashed.
        salted_password: Bytes;
    }

    /// Which users were altered.
    pub struct AlterUserScramCredentialsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each user.
        results: Vec<AlteredScramUser>;
    }

    /// Whether one user was altered.
    pub struct AlteredScramUser {
        /// The user's name.
        user: String;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }
}
