"""Tersor: the compressing compiler for Apache TVM."""
