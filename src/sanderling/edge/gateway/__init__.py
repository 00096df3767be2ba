"""The edge hub: takes messages from modules, keeps them, and brings them on.

module ──PUBLISH──▶ endpoint ──▶ routes ──▶ store (durable) ──PUBACK──▶ module
                                              │
                    module input ◀── pump ────┴──── pump ──▶ $upstream (the hub)
"""
