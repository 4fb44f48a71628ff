//! What is changed in Lua 5.1.5, and why.
//!
//! Each patch replaces a piece of text that must be there as often as it says. They make a sandbox of it: tables that cannot
//! be changed by any road, no bytecode, no C call that runs on without end (`mortise_tick`, which is ours, looks at the
//! clock), and the order of tables that Redis has. The last few make it faster, and change nothing that scripts can see.

/// A piece of a file, and what it becomes.
pub(crate) struct Patch {
    /// The file.
    pub(crate) file: &'static str,
    /// What for.
    pub(crate) why: &'static str,
    /// What stands there.
    pub(crate) find: &'static str,
    /// What is put in its place.
    pub(crate) put: &'static str,
    /// How often it stands there.
    pub(crate) times: usize,
}

const fn patch(file: &'static str, why: &'static str, find: &'static str, put: &'static str) -> Patch {
    Patch { file, why, find, put, times: 1 }
}

/// A patch of a place that is there more than once.
const fn each(times: usize, patch: Patch) -> Patch {
    Patch { times, ..patch }
}

const READONLY: &str = "tables can be read-only";
const TEXT: &str = "chunks are text: bytecode is not checked, and can read and write anywhere";
const NAME: &str = "the name of a chunk stays alive while it is parsed";
const HASH: &str =
    "the hash of a string takes all its bytes, as Redis has it: the order of tables hangs on it";
const TICKS: &str = "a long C call looks at the clock";
const DEPTH: &str = "patterns are matched to a bounded depth";
const RANGE: &str = "arithmetic on a range does not overflow";
const COUNT: &str = "a coroutine that is hurried hurries who resumed it";
const MODULO: &str = "a remainder of what is less than its divisor needs no division";
const WANTED: &str = "what a call returns need not be made if nobody wants it";
const PRESENT: &str = "what a table has itself is read without looking for a metamethod";
const WORDS: &str = "the arguments of a command are read in one go";
const STEADY: &str = "a small state is neither swept nor resized at every turn";
const REUSE: &str = "a table that holds nothing but a list can hold the next one";

/// The patches, in order.
pub(crate) const PATCHES: &[Patch] = &[
    // A byte beside the flags, where the structure has a hole: tables do not grow.
    patch("lobject.h", READONLY, "  lu_byte lsizenode;  /*", "  lu_byte readonly;\n  lu_byte lsizenode;  /*"),
    patch("ltable.c", READONLY, "  t->lsizenode = 0;\n", "  t->lsizenode = 0;\n  t->readonly = 0;\n"),
    patch(
        "lua.h",
        READONLY,
        "LUA_API void lua_setallocf",
        "LUA_API void mortise_readonly (lua_State *L, int idx, int enabled);\n\
         LUA_API int mortise_isreadonly (lua_State *L, int idx);\n\
         LUA_API void mortise_tick (lua_State *L);\n\
         LUA_API void mortise_step (lua_State *L, size_t steps);\n\
         LUA_API size_t mortise_room (lua_State *L);\n\
         LUA_API int mortise_wanted (lua_State *L);\n\
         typedef struct { const char *start; size_t len; } mortise_Word;\n\
         LUA_API int mortise_words (lua_State *L, int first, int count, mortise_Word *words);\n\
         LUA_API int mortise_emptied (lua_State *L, int idx, int room);\n\
         LUA_API void lua_setallocf",
    ),
    patch(
        "lapi.c",
        READONLY,
        "LUA_API void lua_rawset (",
        "static void writable (lua_State *L, const Table *t) {\n\
         \x20 if (t->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
         }\n\n\
         LUA_API void mortise_readonly (lua_State *L, int idx, int enabled) {\n\
         \x20 hvalue(index2adr(L, idx))->readonly = cast_byte(enabled);\n\
         }\n\n\
         LUA_API int mortise_isreadonly (lua_State *L, int idx) {\n\
         \x20 return hvalue(index2adr(L, idx))->readonly;\n\
         }\n\n\
         LUA_API void lua_rawset (",
    ),
    patch(
        "lapi.c",
        READONLY,
        "  setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);",
        "  writable(L, hvalue(t));\n  setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);",
    ),
    patch(
        "lapi.c",
        READONLY,
        "  setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);",
        "  writable(L, hvalue(o));\n  setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);",
    ),
    patch(
        "lapi.c",
        READONLY,
        "      hvalue(obj)->metatable = mt;",
        "      writable(L, hvalue(obj));\n      hvalue(obj)->metatable = mt;",
    ),
    patch(
        "lvm.c",
        READONLY,
        "      TValue *oldval = luaH_set(L, h, key);",
        "      TValue *oldval;\n      if (h->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
         \x20     oldval = luaH_set(L, h, key);",
    ),
    patch("ldo.c", TEXT, "(c == LUA_SIGNATURE[0]) ? luaU_undump : luaY_parser", "(void)c, luaY_parser"),
    patch(
        "lparser.c",
        NAME,
        "  luaX_setinput(L, &lexstate, z, luaS_new(L, name));",
        "  TString *source = luaS_new(L, name);\n  setsvalue2s(L, L->top, source);\n  incr_top(L);\n\
         \x20 luaX_setinput(L, &lexstate, z, source);",
    ),
    patch("lparser.c", NAME, "  lua_assert(funcstate.prev == NULL);", "  L->top--;"),
    patch(
        "llex.c",
        RANGE,
        "    save_and_next(ls);\n    count++;\n",
        "    save_and_next(ls);\n    if (++count == MAX_INT) luaX_lexerror(ls, \"lexical element too long\", 0);\n",
    ),
    patch("lstring.c", HASH, "  size_t step = (l>>5)+1;", "  size_t step = 1;"),
    patch(
        "lstring.c",
        TICKS,
        "  for (l1=l; l1>=step; l1-=step)  /* compute hash */\n",
        "  for (l1=l; l1>=step; l1-=step)\n    if ((l1 & 0xfffff) == 0) {\n      mortise_tick(L);\n\
         \x20     h = h ^ ((h<<5)+(h>>2)+cast(unsigned char, str[l1-1]));\n    } else\n",
    ),
    patch(
        "lauxlib.c",
        TICKS,
        "  if (emptybuffer(B))\n    adjuststack(B);\n",
        "  if (emptybuffer(B)) {\n    adjuststack(B);\n    mortise_tick(B->L);\n  }\n",
    ),
    patch("lstate.h", TICKS, "  int gcstepmul;", "  size_t steps;\n  int gcstepmul;"),
    patch("lstate.c", TICKS, "  g->gcdept = 0;\n", "  g->gcdept = 0;\n  g->steps = 0;\n"),
    patch(
        "lapi.c",
        TICKS,
        "LUA_API void lua_rawseti (",
        "LUA_API void mortise_step (lua_State *L, size_t steps) {\n\
         \x20 if ((G(L)->steps += steps) >= 1024) {\n    G(L)->steps = 0;\n    mortise_tick(L);\n  }\n}\n\n\
         LUA_API void lua_rawseti (",
    ),
    // The matcher: each of its calls is a step, and so is what it reads without calling itself.
    patch(
        "lstrlib.c",
        TICKS,
        "  int level;  /* total number of",
        "  int depth;\n  size_t steps;\n  int level;  /* total number of",
    ),
    each(3, patch("lstrlib.c", TICKS, "  ms.L = L;\n", "  ms.L = L;\n  ms.depth = 0;\n  ms.steps = 0;\n")),
    patch(
        "lstrlib.c",
        TICKS,
        "static const char *match (MatchState *ms, const char *s, const char *p);\n",
        "static const char *match (MatchState *ms, const char *s, const char *p);\n\n\
         static void stepped (MatchState *ms, size_t steps) {\n\
         \x20 if ((ms->steps += steps) >= 1024) {\n    ms->steps = 0;\n    mortise_tick(ms->L);\n  }\n}\n",
    ),
    patch(
        "lstrlib.c",
        DEPTH,
        "static const char *match (MatchState *ms, const char *s, const char *p) {\n  init:",
        "static const char *match_here (MatchState *ms, const char *s, const char *p);\n\n\
         static const char *match (MatchState *ms, const char *s, const char *p) {\n\
         \x20 const char *end;\n\
         \x20 if (ms->depth >= 16000) luaL_error(ms->L, \"pattern too complex\");\n\
         \x20 stepped(ms, 1);\n  ms->depth++;\n  end = match_here(ms, s, p);\n  ms->depth--;\n  return end;\n}\n\n\
         static const char *match_here (MatchState *ms, const char *s, const char *p) {\n  init:",
    ),
    each(
        2,
        patch(
            "lstrlib.c",
            TICKS,
            "ep = classend(ms, p);  /* points to what is next */",
            "ep = classend(ms, p); stepped(ms, (size_t)(ep - p) >> 4);",
        ),
    ),
    patch(
        "lstrlib.c",
        TICKS,
        "singlematch(uchar(*(s+i)), p, ep))\n    i++;",
        "singlematch(uchar(*(s+i)), p, ep)) {\n    i++;\n    stepped(ms, 1 + ((size_t)(ep - p) >> 4));\n  }",
    ),
    patch(
        "lstrlib.c",
        TICKS,
        "    while (++s < ms->src_end) {\n",
        "    while (++s < ms->src_end) {\n      stepped(ms, 1);\n",
    ),
    patch(
        "lstrlib.c",
        TICKS,
        "  len = ms->capture[l].len;\n",
        "  len = ms->capture[l].len;\n  stepped(ms, len >> 8);\n",
    ),
    patch("lstrlib.c", TICKS, "*lmemfind (const char *s1,", "*lmemfind (lua_State *L, const char *s1,"),
    patch("lstrlib.c", TICKS, "lmemfind(s+init,", "lmemfind(L, s+init,"),
    patch(
        "lstrlib.c",
        TICKS,
        "      init++;   /* 1st char",
        "      mortise_step(L, 1 + (l2 >> 8));\n      init++;   /* 1st char",
    ),
    patch(
        "lstrlib.c",
        RANGE,
        "  while (n-- > 0)\n",
        "  if (n > 0 && l > mortise_room(L) / (size_t)n) {\n    lua_gc(L, LUA_GCCOLLECT, 0);\n\
         \x20   if (l > mortise_room(L) / (size_t)n) return luaL_error(L, \"not enough memory\");\n  }\n\
         \x20 while (l > 0 && n-- > 0)\n",
    ),
    patch(
        "lbaselib.c",
        RANGE,
        "  n = e - i + 1;  /* number of elements */\n  if (n <= 0 || !lua_checkstack(L, n))",
        "  n = (int)((unsigned)e - (unsigned)i);\n  if (n < 0 || n == 0x7fffffff || !lua_checkstack(L, ++n))",
    ),
    patch(
        "lbaselib.c",
        COUNT,
        "  status = lua_resume(co, narg);\n",
        "  status = lua_resume(co, narg);\n  if (lua_gethookcount(co) < lua_gethookcount(L))\n\
         \x20   lua_sethook(L, lua_gethook(co), lua_gethookmask(co), lua_gethookcount(co));\n",
    ),
    patch(
        "ltablib.c",
        TICKS,
        "    return lua_lessthan(L, a, b);",
        "    return (mortise_step(L, lua_type(L, a) == LUA_TSTRING ? 1 + (lua_objlen(L, a) >> 8) : 1),\n\
         \x20           lua_lessthan(L, a, b));",
    ),
    patch("ltablib.c", TICKS, "  /* move up elements */\n", "\n        mortise_step(L, 1);\n"),
    patch(
        "ltablib.c",
        TICKS,
        "  for ( ;pos<e; pos++) {\n",
        "  for ( ;pos<e; pos++) {\n    mortise_step(L, 1);\n",
    ),
    patch(
        "ltablib.c",
        TICKS,
        "    lua_pop(L, 1);  /* remove value */\n",
        "    lua_pop(L, 1);\n    mortise_step(L, 1);\n",
    ),
    patch(
        "ltablib.c",
        TICKS,
        "  lua_rawgeti(L, 1, i);\n  if (!lua_isstring(L, -1))",
        "  mortise_step(L, 1);\n  lua_rawgeti(L, 1, i);\n  if (!lua_isstring(L, -1))",
    ),
    // Rounded, the quotient stays below one, so the remainder is the dividend to the bit.
    patch(
        "luaconf.h",
        MODULO,
        "#define luai_nummod(a,b)\t((a) - floor((a)/(b))*(b))",
        "static inline double mortise_modulo (double a, double b) {\n\
         \x20 if (a > 0 && a < b && b < HUGE_VAL) return a;\n\
         \x20 return a - floor(a/b)*b;\n}\n\
         #define luai_nummod(a,b)\tmortise_modulo(a, b)",
    ),
    patch(
        "lapi.c",
        WANTED,
        "LUA_API int lua_gettop (",
        "LUA_API int mortise_wanted (lua_State *L) {\n  return L->ci->nresults;\n}\n\n\
         LUA_API int lua_gettop (",
    ),
    patch(
        "lapi.c",
        REUSE,
        "LUA_API int lua_checkstack (",
        "LUA_API int mortise_emptied (lua_State *L, int idx, int room) {\n\
         \x20 const TValue *o = index2adr(L, idx);\n\
         \x20 return ttistable(o) && luaH_emptied(hvalue(o), room);\n}\n\n\
         LUA_API int lua_checkstack (",
    ),
    patch(
        "ltable.h",
        REUSE,
        "LUAI_FUNC int luaH_getn (",
        "LUAI_FUNC int luaH_emptied (Table *t, int room);\nLUAI_FUNC int luaH_getn (",
    ),
    patch(
        "ltable.c",
        REUSE,
        "void luaH_free (",
        "int luaH_emptied (Table *t, int room) {\n\
         \x20 int i;\n\
         \x20 if (t->sizearray != room || t->node != dummynode || t->metatable || t->readonly) return 0;\n\
         \x20 for (i = 0; i < room; i++) setnilvalue(&t->array[i]);\n\
         \x20 return 1;\n}\n\n\
         void luaH_free (",
    ),
    patch(
        "lapi.c",
        WORDS,
        "LUA_API int lua_checkstack (",
        "LUA_API int mortise_words (lua_State *L, int first, int count, mortise_Word *words) {\n\
         \x20 const TValue *o = L->base + (first - 1);\n\
         \x20 int i;\n\
         \x20 for (i = 0; i < count; i++, o++) {\n\
         \x20   if (ttisstring(o)) { words[i].start = svalue(o); words[i].len = tsvalue(o)->len; }\n\
         \x20   else if (ttisnumber(o)) { words[i].start = NULL; words[i].len = 0; }\n\
         \x20   else return 0;\n\
         \x20 }\n  return 1;\n}\n\n\
         LUA_API int lua_checkstack (",
    ),
    patch(
        "lvm.c",
        PRESENT,
        "        TValue *rb = KBx(i);\n        sethvalue(L, &g, cl->env);\n        lua_assert(ttisstring(rb));\n",
        "        TValue *rb = KBx(i);\n\
         \x20       const TValue *own = luaH_getstr(cl->env, rawtsvalue(rb));\n\
         \x20       if (!ttisnil(own)) { setobj2s(L, ra, own); continue; }\n\
         \x20       sethvalue(L, &g, cl->env);\n",
    ),
    patch(
        "lvm.c",
        PRESENT,
        "        Protect(luaV_gettable(L, RB(i), RKC(i), ra));\n",
        "        const TValue *rb = RB(i), *rc = RKC(i);\n\
         \x20       if (ttistable(rb)) {\n\
         \x20         const TValue *own = ttisstring(rc) ? luaH_getstr(hvalue(rb), rawtsvalue(rc)) :\n\
         \x20                                              luaH_get(hvalue(rb), rc);\n\
         \x20         if (!ttisnil(own)) { setobj2s(L, ra, own); continue; }\n\
         \x20       }\n\
         \x20       Protect(luaV_gettable(L, rb, rc, ra));\n",
    ),
    patch(
        "lgc.c",
        STEADY,
        "#define setthreshold(g)  (g->GCthreshold = (g->estimate/100) * g->gcpause)",
        "#define setthreshold(g)  (g->GCthreshold = g->estimate < (256 << 10) ? g->estimate * 4 \\\n\
         \x20                                                 : (g->estimate/100) * g->gcpause)",
    ),
    patch("llimits.h", STEADY, "#define MINSTRTABSIZE\t32", "#define MINSTRTABSIZE\t2048"),
];
