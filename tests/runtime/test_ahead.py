"""Compiling ahead: ready when it says so, and what fails is told where it is waited for."""

import threading

import jax
import jax.numpy as jnp
import pytest

from imagic_jax.runtime.ahead import Ahead


def fails():
    raise TypeError("no such shape")


def lowered():
    return jax.jit(lambda x: x + 1).lower(jnp.float32(0))


def test_a_program_that_fails_is_told_once_and_stops_no_other():
    with Ahead({"bad": fails, "good": lowered}) as ahead:
        with pytest.warns(RuntimeWarning, match="'bad' could not be compiled.*no such shape"):
            assert ahead.wait("bad")
        assert ahead.wait("bad")
        assert ahead.wait("good")
        assert ahead.wait("never given")


def test_waiting_ends_when_it_shall():
    begun, end = threading.Event(), threading.Event()

    def slow():
        begun.set()
        end.wait(10)
        return lowered()

    with Ahead({"slow": slow}) as ahead:
        begun.wait(10)
        assert not ahead.wait("slow", stop=lambda: True)
        end.set()
        assert ahead.wait("slow")
