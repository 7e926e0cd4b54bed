"""Is energy conserved, once every booked exchange is taken out?"""
