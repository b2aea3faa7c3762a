import os


def greet(names=[]):
    for name in names:
        print("Hello, " + name + punctuation)
