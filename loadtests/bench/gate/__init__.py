"""`make gate`: whether a delivery costs more CPU time than it did, told by references in the same run."""
